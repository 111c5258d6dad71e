"""Packages that only some uses need; setup.cfg lists them as extras."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator

from xmc_jax.types import UserError


class MissingPackage(UserError):
  """A package that is not installed; the sentence names the extra that brings it."""


@contextlib.contextmanager
def extra(name: str, what: str) -> Iterator[None]:
  """Imports inside belong to the extra `name`; where one is missing, MissingPackage is raised.

  name: of the extra in setup.cfg.
  what: the flag, command or file that needs the package; begins the sentence.
  """
  try:
    yield
  except ModuleNotFoundError as error:
    package = (error.name or str(error)).partition('.')[0]
    raise MissingPackage(f'{what}: {package} is not installed; '
                         f"run `pip install 'xmc_jax[{name}]'`") from error
