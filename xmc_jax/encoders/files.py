"""Where frozen weights lie: folders of the user's, and files that installed packages carry."""
from __future__ import annotations

import importlib.util
import pathlib

from xmc_jax.types import UserError


def package_file(package: str, relative: str, pip: str) -> pathlib.Path:
  """The path of something inside an installed package, found without importing the package.

  Args:
    package: name of a top-level package, as it is imported.
    relative: path of the file or folder inside the package.
    pip: the command that installs the package, for the error.
  Raises:
    UserError: the package, or the thing in it, is not there.
  """
  spec = importlib.util.find_spec(package)
  folders = list(spec.submodule_search_locations or ()) if spec else []
  for folder in folders:
    path = pathlib.Path(folder, relative)
    if path.exists():
      return path
  where = f'in {folders[0]}' if folders else 'in this Python environment'
  raise UserError(
    f'The weights {package}/{relative} were not found {where}; install them with: {pip}')
