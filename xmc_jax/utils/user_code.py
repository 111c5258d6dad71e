"""Modules of the user's that flags name."""
from __future__ import annotations

import importlib
from types import ModuleType

from xmc_jax.types import UserError


def import_module(name: str, flag: str, advice: str) -> ModuleType:
  """The module; UserError, with the flag that names it and `advice`, whatever goes wrong in it."""
  try:
    return importlib.import_module(name)
  except (Exception, SystemExit) as error:      # it may even call sys.exit()
    exits = isinstance(error, SystemExit) and not error.code
    why = 'it calls sys.exit()' if exits else f'{type(error).__name__}: {error}'
    raise UserError(f'{flag}: the module {name} cannot be imported ({why}); {advice}') from error
