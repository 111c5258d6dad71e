"""What the benchmarks share: their flags, and the program of a config."""
from __future__ import annotations

import argparse
import json
from typing import Any

import jax
import ml_collections

from xmc_jax import methods
from xmc_jax.cli import config_file
from xmc_jax.training import mesh as meshes
from xmc_jax.training.program import Program
from xmc_jax.types import UserError


def parse(parser: argparse.ArgumentParser, default: str | None = None
          ) -> tuple[argparse.Namespace, ml_collections.ConfigDict]:
  """The script's flags, and its config: --config FILE, with --config.KEY=VALUE as in `xmc`.

  A mistake of the user's ends the process with exit code 2. Without --config the config is that of
  the file `default`, if there is one.
  """
  parser.epilog = '--config FILE and --config.KEY=VALUE as in `xmc train`.'
  parser.allow_abbrev = False
  parser.add_argument('--config')
  args, rest = parser.parse_known_args()
  overrides = [word for word in rest if word.startswith('--config.')]
  if unknown := [word for word in rest if word not in overrides]:
    parser.error(f'unknown: {unknown[0]}')
  if args.config is None and default is None:
    parser.error('--config is missing')
  try:
    config = config_file.load(args.config or default, overrides)
    # Synthetic captions are in no table of embeddings, and need no data set this way.
    return args, changed(config, text__cached=False) if config.text.get('cached') else config
  except UserError as error:
    parser.error(' '.join(str(error).split()))


def build(config: ml_collections.ConfigDict, devices: list[jax.Device] | None = None
          ) -> tuple[methods.Method, Program]:
  """The method and the program of `config` over `devices`, by default all of this process."""
  mesh = meshes.make_mesh(devices)
  meshes.check_rows(config.batch_size, config.microbatches, mesh)
  method = methods.build(config)
  return method, methods.program(method, config, mesh)


def changed(config: ml_collections.ConfigDict, **values: Any) -> ml_collections.ConfigDict:
  """A copy with other values; `__` in a name stands for a dot."""
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.update_from_flattened_dict({k.replace('__', '.'): v for k, v in values.items()})
  return config.lock()


def show(facts: dict[str, Any]) -> None:
  """One line of JSON, at once."""
  print(json.dumps(facts), flush=True)
