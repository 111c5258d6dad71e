"""Cost and time of one training step on this machine; prints one JSON line a case.

  python benchmarks/train_step.py --config configs/emoji64.py
  python benchmarks/train_step.py --config configs/emoji64.py --plain --rows 8

Synthetic batches and random frozen weights: neither data nor weight files are needed. --plain runs
the plain twin of the fast forms beside it, in turn, and adds the ratio of their times; --cost-only
compiles without running. FLOPs and bytes are the compiler's, a loop's body counted once.
"""
import argparse
import json
import runpy
import time

import jax
import numpy as np

from xmc_jax import recipes
from xmc_jax.engine import mesh as meshes
from xmc_jax.engine import program as programs
from xmc_jax.engine.optim import make_optimizers


class Case:
  """One compiled step with its state, ready to be run again and again."""

  def __init__(self, config, fast: bool):
    config.model.fast = fast
    recipe, mesh = recipes.build(config), meshes.make_mesh()
    self._program = programs.Program(recipe.objective, make_optimizers(config.optim),
                                     config.ema_decay, recipe.frozen_spec, recipe.batch_spec, mesh)
    began = time.perf_counter()
    self._compiled = self._program.lower().compile()
    rounds = len(recipe.objective.rounds)
    self.images = rounds * config.batch_size
    self.facts = {'fast': fast, 'rows': config.batch_size, 'devices': mesh.size,
                  'device': mesh.devices.flat[0].device_kind,
                  'compile_seconds': round(time.perf_counter() - began, 2),
                  **programs.cost(self._compiled)}
    self._recipe = recipe

  def prepare(self) -> None:
    random = np.random.default_rng(0)
    fill = lambda spec: random.standard_normal(spec.shape).astype(spec.dtype) / 10
    self._frozen = self._program.put_frozen(jax.tree.map(fill, self._recipe.frozen_spec))
    make = {'image': lambda s: random.random(s.shape, np.float32),
            'tokens': lambda s: random.integers(1, 1000, s.shape, np.int32),
            'mask': lambda s: np.ones(s.shape, bool)}
    batch = {k: make[k](spec) for k, spec in self._recipe.batch_spec.items()}
    self._batch = meshes.put_rows(batch, self._program.rows)
    self._state = self._program.init(0)
    self.run()

  def run(self) -> float:
    """Seconds of one step."""
    began = time.perf_counter()
    self._state, metrics = self._compiled(self._state, self._frozen, self._batch)
    jax.block_until_ready((self._state.step, metrics))
    return time.perf_counter() - began


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--config', required=True)
  parser.add_argument('--rows', '--batch_size', type=int, help='rows of a round')
  parser.add_argument('--steps', type=int, default=5)
  parser.add_argument('--plain', action='store_true')
  parser.add_argument('--cost-only', action='store_true')
  args = parser.parse_args()
  cases = []
  for fast in (True, False) if args.plain else (True,):
    config = runpy.run_path(args.config)['get_config']()
    config.batch_size = args.rows or config.batch_size
    cases.append(Case(config, fast))
  if not args.cost_only:
    for case in cases:
      case.prepare()
    seconds = np.array([[case.run() for case in cases] for _ in range(args.steps)])
    for case, median in zip(cases, np.median(seconds, 0)):
      case.facts |= {'step_seconds': round(float(median), 4),
                     'images_per_second': round(case.images / float(median), 2)}
    if args.plain:
      cases[0].facts['times_of_plain'] = round(float(np.median(seconds[:, 0] / seconds[:, 1])), 3)
  for case in cases:
    print(json.dumps({'config': args.config, **case.facts}))


if __name__ == '__main__':
  main()
