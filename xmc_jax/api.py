"""`xmc_jax.train`: `xmc train` as a function."""
from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import ml_collections

from xmc_jax import trainer
from xmc_jax.cli import config_file
from xmc_jax.config import flat
from xmc_jax.training.state import TrainState


def train(config: str | os.PathLike[str] | ml_collections.ConfigDict,
          workdir: str | os.PathLike[str],
          changes: Mapping[str, Any] | None = None, *, allow_changes: bool = False) -> TrainState:
  """Trains a model, or resumes the run in `workdir`.

    xmc_jax.train('demo', 'runs/demo', {'steps': 200, 'model.width': 16})

  Args:
    config: the name of a config of the package, the path of a config file, or a config.
    workdir: folder of the run.
    changes: values of single keys of a config that is given by name or path; sections may be dicts,
      {'model': {'width': 16}}.
    allow_changes: resume although the method, the data or the tokenizer have changed.
  Returns:
    The last state.
  Raises:
    UserError: a mistake that can be found before the first step, or a loss that is not finite.
  """
  if isinstance(config, (str, os.PathLike)):
    overrides = [f'--config.{key}={value}' for key, value in flat(changes or {}).items()]
    config = config_file.load(os.fspath(config), overrides)
  elif changes:
    raise TypeError('changes go with the name or path of a config')
  return trainer.train(config, workdir, allow_changes=allow_changes)
