"""Modules of the user's that flags name."""
from __future__ import annotations

import importlib
import sys
from types import ModuleType

from xmc_jax.types import UserError


def is_foreign(name: str) -> bool:
  """Whether a name is that of a module which nobody has imported yet.

  What comes from others, such as a model folder, must not import one: that runs it.
  """
  return '.' in name and name not in sys.modules


def import_module(name: str, flag: str, advice: str) -> ModuleType:
  """The module; UserError, with the flag that names it and `advice`, whatever goes wrong in it."""
  try:
    return importlib.import_module(name)
  except (Exception, SystemExit) as error:      # it may even call sys.exit()
    exits = isinstance(error, SystemExit) and not error.code
    why = 'it calls sys.exit()' if exits else f'{type(error).__name__}: {error}'
    raise UserError(f'{flag}: the module {name} cannot be imported ({why}); {advice}') from error
