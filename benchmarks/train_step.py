"""Cost and time of one training step on this machine; prints one JSON line a case.

  python benchmarks/train_step.py --config configs/emoji64.py
  python benchmarks/train_step.py --config configs/emoji64.py --reference --batch_size 8
  python benchmarks/train_step.py --config configs/xmc_gan_coco256.py --batch_size 8 --cost-only

Synthetic batches and random frozen weights: neither data nor the large weight files are needed.
--reference runs the reference twin of every fast implementation in the same process, step by step
in turn with it. What the keys are stands in benchmarks/README.md.
"""
import argparse
import time

import common
import jax
import numpy as np

from xmc_jax import describe
from xmc_jax.training import mesh as meshes
from xmc_jax.types import PARTNER, UserError

# Multiplications and additions a second of dense bfloat16 products, by jax.Device.device_kind.
# NVIDIA: data sheets of H100 SXM, H200 SXM and A100; TPU: cloud.google.com/tpu/docs, a chip.
PEAK = {'NVIDIA H100 80GB HBM3': 989e12, 'NVIDIA H200': 989e12,
        'NVIDIA A100-SXM4-40GB': 312e12, 'NVIDIA A100-SXM4-80GB': 312e12,
        'NVIDIA A100-PCIE-40GB': 312e12, 'NVIDIA A100 80GB PCIe': 312e12,
        'TPU v4': 275e12, 'TPU v5 lite': 197e12, 'TPU v5e': 197e12, 'TPU v5': 459e12,
        'TPU v5p': 459e12, 'TPU v6 lite': 918e12, 'TPU v6e': 918e12}


class Case:
  """One compiled step with its state, ready to be run again and again; `facts` is its line.

  It runs on `devices`, by default all; `metrics` are those of its last step.
  """

  def __init__(self, config, devices: list[jax.Device] | None = None):
    self._config = config
    self._method, self._program = common.build(config, devices)
    began = time.perf_counter()
    self._step = self._program.compile()
    device, seconds = jax.devices()[0], time.perf_counter() - began
    self.facts = {
        'impl': config.model.impl, 'px': config.model.size, 'width': config.model.get('width'),
        'dtype': config.model.dtype, 'rows': config.batch_size, 'microbatches': config.microbatches,
        'remat': config.model.get('remat'), 'devices': self._program.mesh.size,
        'device': device.device_kind, 'jax': jax.__version__, 'compile_seconds': round(seconds, 2),
        **describe.step_cost(self._program, self._step)}

  def prepare(self) -> None:
    """Puts numbers where they are needed, and runs a first step."""
    random = np.random.default_rng(0)
    fill = lambda spec: (random.standard_normal(spec.shape, np.float32) / 10).astype(spec.dtype)
    self._frozen = self._program.put_frozen(jax.tree.map(fill, self._method.frozen_spec))
    make = {'image': lambda s: random.random(s.shape, np.float32),
            'tokens': lambda s: random.integers(1, 1000, s.shape, np.int32),
            'mask': lambda s: np.ones(s.shape, bool),
            'objects': lambda s: np.full(s.shape, 0.5, np.float32),
            'label': lambda s: random.integers(0, 3, s.shape).astype(s.dtype)}
    batch = {key: make[key.removeprefix(PARTNER)](spec)
             for key, spec in self._method.batch_spec.items()}
    self._batch = meshes.put_rows(batch, self._program.rows)
    self._state = self._program.init(0)
    self.run()

  def run(self) -> float:
    """Seconds of one step, until its last number is there."""
    began = time.perf_counter()
    self._state, self.metrics = self._step(self._state, self._frozen, self._batch)
    jax.block_until_ready((self._state.step, self.metrics))
    return time.perf_counter() - began

  def timed(self, seconds: np.ndarray) -> None:
    """Adds what the times of all its steps tell."""
    median = float(np.median(seconds))
    images = len(self._method.objective.rounds) * self._config.batch_size
    self.facts |= {'step_seconds': round(median, 5),
                   'step_seconds_least': round(float(min(seconds)), 5),
                   'images_per_second': round(images / median, 2)}
    flops, peak = self.facts['flops'], PEAK.get(self.facts['device'])
    self.facts['flops_per_second'] = round(flops / median)
    if peak and self._config.model.dtype == 'bfloat16':
      self.facts['mfu'] = round(flops / median / peak, 4)


def measure(cases: list[Case], steps: int, profile: str | None) -> None:
  """Runs the cases in turn, so that a machine's moods meet them all alike."""
  for case in cases:
    case.prepare()
  seconds = np.array([[case.run() for case in cases] for _ in range(steps)])
  for case, of_case in zip(cases, seconds.T):
    case.timed(of_case)
  if len(cases) == 2:
    cases[0].facts['ratio'] = round(float(np.median(seconds[:, 0] / seconds[:, 1])), 4)
  if profile:
    with jax.profiler.trace(profile):
      for case in cases:
        with jax.profiler.TraceAnnotation(case.facts['impl']):
          case.run()


def benchmark(config, args: argparse.Namespace, batch_size: int) -> None:
  """Prints the lines of one batch size; where it does not fit, one that says so."""
  config = common.changed(config, batch_size=batch_size)
  impl = [config.model.impl] + (['reference'] if args.reference else [])
  try:
    cases = [Case(common.changed(config, model__impl=name)) for name in impl]
    if not args.cost_only:
      measure(cases, args.steps, args.profile)
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    common.show({'rows': batch_size, 'impl': config.model.impl, 'error': 'out of memory'})
    return
  for case in cases:
    common.show(case.facts)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  sizes = parser.add_mutually_exclusive_group()
  sizes.add_argument('--batch_size', type=int, help='rows of a round, over all devices')
  sizes.add_argument('--batch_sizes', type=lambda text: [int(n) for n in text.split(',')],
                     help='several, a case each, such as 8,16,32')
  parser.add_argument('--steps', type=int, default=5, help='timed steps of a case')
  parser.add_argument(
    '--reference', action='store_true', help='the reference twin too, and the ratio'
  )
  parser.add_argument('--cost-only', action='store_true', help='compile without running')
  parser.add_argument('--profile', metavar='DIR', help='write a trace of a step of every case')
  args, config = common.parse(parser)
  try:
    for batch_size in args.batch_sizes or [args.batch_size or config.batch_size]:
      benchmark(config, args, batch_size)
  except UserError as error:
    parser.error(str(error))


if __name__ == '__main__':
  main()
