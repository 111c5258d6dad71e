"""Time and memory of a training step of each family, beside a plain PyTorch step of the same.

  python benchmarks/networks.py
  python benchmarks/networks.py --config configs/ssa_gan_emoji.py --steps 10
  taskset -c 0 python benchmarks/networks.py --channels_last
  taskset -c 0 python benchmarks/networks.py --compile

Without --config the five emoji configs, a process each. Both sides begin with the same weights,
have the same synthetic batch, and take steps in turn in one process, so that a machine's moods meet
both alike. Before anything is measured the losses of their first step are compared. Threads are as
many as cores that the process may use; with one (taskset) the times are steadier beside others.
Needs PyTorch.
What the keys are stands in benchmarks/README.md.
"""
import argparse
import ctypes
import gc
import importlib.util
import pathlib
import subprocess
import sys
import threading
import time

import common
import jax
import numpy as np

from xmc_jax import describe
from xmc_jax.methods._damsm import has_loss
from xmc_jax.training import mesh as meshes
from xmc_jax.training import program as programs
from xmc_jax.types import UserError
from xmc_jax.utils import machine

CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'
SIDES = ('xmc_jax', 'torch')
EMOJI = [f'{family}_emoji.py' for family in ('attngan', 'dm_gan', 'df_gan', 'ssa_gan', 'galip')]
ALIKE = 0.02          # largest relative difference of the losses of a first step


class Resident:
  """Bytes of this process, without its files, since `begin`: the most there are inside `with`."""

  STATUS = pathlib.Path('/proc/self/status')

  def begin(self) -> None:
    if self.STATUS.exists():
      gc.collect()
      ctypes.CDLL(None).malloc_trim(0)      # what is free else serves who comes next, uncounted
    self._before = self._now()

  def _now(self) -> int:
    """0 where there is no such file."""
    text = self.STATUS.read_text() if self.STATUS.exists() else 'RssAnon: 0'
    return 1024 * int(text.partition('RssAnon:')[2].split()[0])

  def __enter__(self):
    self.bytes, self._left = 0, threading.Event()
    self._thread = threading.Thread(target=self._watch)
    self._thread.start()
    return self

  def _watch(self):
    while not self._left.wait(0.002):
      self.bytes = max(self.bytes, self._now() - self._before)

  def __exit__(self, *error):
    self._left.set()
    self._thread.join()


class Ours:
  """The compiled step with state, frozen weights and batch.

  begins: parameters of the first step by network, frozen weights, and the batch, as numpy; noise:
  what that step draws, [b, z].
  """

  def __init__(self, config):
    self.method, self._program = common.build(config)
    began = time.perf_counter()
    self._step = self._program.compile()
    self.compile_seconds = time.perf_counter() - began
    self.flops = describe.flops(self._program)
    self.memory = self._step.memory()
    self.parameters = programs.parameters(self._program.state_spec)
    state = self._program.init(0)
    self.noise = self._drawn(state)
    self.begins = (jax.tree.map(np.array, {name: p.params for name, p in state.networks.items()}),
                   *self._inputs())

  def _inputs(self):
    random = np.random.default_rng(0)
    make = {'image': lambda s: random.random(s.shape, np.float32),
            'tokens': lambda s: random.integers(1, 1000, s.shape, np.int32),
            'mask': lambda s: np.ones(s.shape, bool)}
    return (jax.tree.map(lambda spec: _scaled(random, spec.shape), self.method.frozen_spec),
            {key: make[key](spec) for key, spec in self.method.batch_spec.items()})

  def _drawn(self, state) -> np.ndarray:
    rng = jax.random.fold_in(jax.random.fold_in(state.rng, state.step), 0)
    rows = jax.random.split(jax.random.fold_in(rng, 0), self.method.batch_spec['tokens'].shape[1])
    return np.asarray(jax.vmap(lambda r: jax.random.normal(r, (self.method.z_features,)))(rows))

  def prepare(self) -> None:
    """Puts numbers where they are needed."""
    _, frozen, batch = self.begins
    self._frozen = self._program.put_frozen(frozen)
    self._batch = meshes.put_rows(batch, self._program.rows)
    self._state = self._program.init(0)

  def run(self) -> dict[str, float]:
    """One step; the losses of its phases."""
    self._state, metrics = self._step(self._state, self._frozen, self._batch)
    jax.block_until_ready(self._state)
    return {key.partition('/')[0]: float(value) for key, value in metrics.items()
            if key.endswith('_loss')}


def _scaled(random, shape) -> np.ndarray:
  """Numbers that keep the scale of what they map."""
  fan_in = np.prod(shape[:-1]) if len(shape) > 1 else 25
  return random.standard_normal(shape, np.float32) / np.float32(np.sqrt(fan_in))


class Theirs:
  """The PyTorch step with the weights, frozen weights and batch of `ours`."""

  def __init__(self, config, ours: Ours, channels_last: bool, compiled: bool):
    import torch
    from torch_networks.families import FAMILIES
    torch.set_num_threads(machine.cores())
    torch.set_flush_denormal(True)            # as XLA does
    self._torch = torch
    trees, frozen, batch = ours.begins
    self._twin = FAMILIES[config.method](config, trees, frozen)
    self.parameters = {name: sum(p.numel() for p in getattr(self._twin, name).parameters())
                       for name in 'gd'}
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for module in (self._twin.g, self._twin.d, self._twin.world):
      module.to(memory_format=layout)
    if compiled:
      self._twin.compile()
    batch = {key: torch.tensor(value[0]) for key, value in batch.items()}
    image = (2 * batch.pop('image') - 1).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    self._batch = {'image': image, **batch}
    self._shape = (len(image), ours.method.z_features)

  def run(self, z: np.ndarray | None = None) -> dict[str, float]:
    """One step, with noise of its own unless some is given; the losses of its phases."""
    torch = self._torch
    z = torch.randn(self._shape) if z is None else torch.tensor(z)
    return self._twin.step(**self._batch, z=z)


def check(config) -> None:
  """Raises UserError for what the PyTorch side cannot do."""
  if config.model.dtype != 'float32':
    raise UserError(f'model.dtype = {config.model.dtype}: the PyTorch step computes in float32; '
                    'set --config.model.dtype=float32')
  if has_loss(config.terms) and config.image.encoder != 'squeezenet':
    raise UserError(f'image.encoder = {config.image.encoder}: the PyTorch step has a SqueezeNet; '
                    'set --config.image.encoder=squeezenet, or --config.terms.damsm_words=0 and '
                    '--config.terms.damsm_sentence=0')


def compared(ours: dict[str, float], theirs: dict[str, float]) -> float:
  """The largest relative difference of the losses of one step; RuntimeError if it is large."""
  if ours.keys() != theirs.keys():
    raise RuntimeError(f'phases {sorted(ours)} here, {sorted(theirs)} in torch')
  apart = max(abs(ours[k] - theirs[k]) / (1e-6 + abs(ours[k])) for k in ours)
  if not apart < ALIKE:
    raise RuntimeError(f'The first steps differ: {ours} here, {theirs} in torch')
  return apart


def timed(function) -> tuple[float, float]:
  """Seconds of the clock and of the processor, all threads."""
  clock, processor = time.perf_counter(), time.process_time()
  function()
  return time.perf_counter() - clock, time.process_time() - processor


def comparable(config):
  """`config` as both sides can run it; UserError if they cannot."""
  changes = {'text__encoder': ''}         # sizes are the config's, whatever has been trained here
  if 'damsm_mask_same_class' in config.terms:
    changes['terms__damsm_mask_same_class'] = False      # it changes a few scores and costs nothing
  config = common.changed(config, **changes)
  check(config)
  return config


def benchmark(config, steps: int, channels_last: bool, compiled: bool) -> dict:
  """The line of one config."""
  import torch
  config, resident, most = comparable(config), Resident(), {}
  ours = Ours(config)
  resident.begin()
  ours.prepare()
  first = ours.run()
  with resident:
    ours.run()
  most['xmc_jax'] = resident.bytes
  resident.begin()
  theirs = Theirs(config, ours, channels_last, compiled)
  if theirs.parameters != ours.parameters:
    raise RuntimeError(f'{ours.parameters} parameters here, {theirs.parameters} in torch')
  apart = compared(first, theirs.run(ours.noise))
  with resident:
    theirs.run()
  if compiled:
    theirs.run()      # torch compiles again when it has seen the gradients come and go
  most['torch'] = resident.bytes
  seconds = np.array([[timed(ours.run), timed(theirs.run)] for _ in range(steps)])
  return {
      'family': config.method, 'rows': config.batch_size, 'px': config.model.size,
      'width': config.model.width, 'parameters': ours.parameters, **times(seconds),
      'resident_bytes': most,
      'program_bytes': ours.memory and sum(ours.memory), 'flops': ours.flops,
      'compile_seconds': round(ours.compile_seconds, 1),
      'difference': float(f'{apart:.1e}'), 'channels_last': channels_last,
      'torch_compiled': compiled, 'cores': machine.cores(),
      'torch_threads': torch.get_num_threads(), 'device': jax.devices()[0].device_kind,
      'jax': jax.__version__, 'torch': torch.__version__}


def times(seconds: np.ndarray) -> dict:
  """What `seconds` [steps, ours and theirs, clock and processor] tell."""
  clock, processor = np.moveaxis(seconds, -1, 0)
  ratios = clock[:, 0] / clock[:, 1]
  each = lambda numbers: {name: round(float(x), 4) for name, x in zip(SIDES, numbers)}
  return {'step_seconds': each(np.median(clock, 0)), 'step_seconds_least': each(clock.min(0)),
          'processor_seconds': each(np.median(processor, 0)),
          'ratio': round(float(np.median(ratios)), 3),
          'ratio_range': [round(float(ratio), 3) for ratio in (ratios.min(), ratios.max())],
          'ratio_of_processor_time': round(float(np.median(processor[:, 0] / processor[:, 1])), 3)}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--steps', type=int, default=5, help='timed steps of each')
  parser.add_argument('--channels_last', action='store_true',
                      help="torch's maps in its other layout, which is not its default")
  parser.add_argument('--compile', action='store_true',
                      help='torch.compile of the networks; needs a C++ compiler')
  args, config = common.parse(parser, default=str(CONFIGS / EMOJI[0]))
  if importlib.util.find_spec('torch') is None:
    parser.error('PyTorch is not installed; pip install torch')
  if args.config is None:
    for name in EMOJI:
      code = subprocess.run([sys.executable, *sys.argv, f'--config={CONFIGS / name}'],
                            check=False).returncode
      if code:
        sys.exit(code)
    return
  jax.config.update('jax_platforms', 'cpu')
  try:
    common.show(benchmark(config, args.steps, args.channels_last, args.compile))
  except UserError as error:
    parser.error(str(error))


if __name__ == '__main__':
  main()
