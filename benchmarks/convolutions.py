"""3x3 convolutions of XLA and of PyTorch's oneDNN on one core, at the shapes of the emoji configs.

  taskset -c 0 python benchmarks/convolutions.py

Prints a JSON line for each shape and direction (forward, gradient of the map, gradient of the
kernel): GFLOP/s by processor time of both, PyTorch in both layouts, medians of runs in turn. The
numbers of both are compared first. Needs PyTorch.
What the keys are stands in benchmarks/README.md.
"""
import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable

import common
import jax
import numpy as np

from xmc_jax.layers.resample import conv

# Examples, side of the map, channels before and after.
SHAPES = ((16, 4, 256, 256), (16, 8, 128, 256), (16, 16, 128, 128), (16, 32, 64, 64),
          (16, 64, 32, 32), (16, 64, 32, 3), (32, 16, 64, 64), (32, 64, 32, 32))


def ours(x: np.ndarray, kernel: np.ndarray, out: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
  """{direction: a call that computes it}, arrays as in JAX."""
  put = jax.device_put
  x, kernel, out = put(x), put(kernel), put(out)
  of_map = jax.jit(lambda kernel, out: jax.linear_transpose(lambda x: conv(x, kernel), x)(out)[0])
  of_kernel = jax.jit(lambda x, out: jax.linear_transpose(lambda k: conv(x, k), kernel)(out)[0])
  forward = jax.jit(conv)
  return {'forward': lambda: forward(x, kernel).block_until_ready(),
          'map': lambda: of_map(kernel, out).block_until_ready(),
          'kernel': lambda: of_kernel(x, out).block_until_ready()}


def torchs(x: np.ndarray, kernel: np.ndarray, out: np.ndarray, channels_last: bool
           ) -> dict[str, Callable[[], np.ndarray]]:
  """The same by PyTorch; results have the axes of PyTorch, see `as_ours`."""
  import torch
  layout = torch.channels_last if channels_last else torch.contiguous_format
  put = lambda array, axes: torch.from_numpy(array.transpose(axes).copy()).contiguous(
      memory_format=layout)
  x, out, kernel = put(x, (0, 3, 1, 2)), put(out, (0, 3, 1, 2)), put(kernel, (3, 2, 0, 1))
  backward = lambda mask: torch.ops.aten.convolution_backward(
      out, x, kernel, None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1, mask)
  return {'forward': lambda: torch.nn.functional.conv2d(x, kernel, padding=1),
          'map': lambda: backward((True, False, False))[0],
          'kernel': lambda: backward((False, True, False))[1]}


def as_ours(direction: str, found) -> np.ndarray:
  return found.numpy().transpose((2, 3, 1, 0) if direction == 'kernel' else (0, 2, 3, 1))


def seconds(calls: dict[str, Callable], times: int) -> dict[str, float]:
  """Median processor time of each call, taken in turn."""
  spent = {name: [] for name in calls}
  for _ in range(times):
    for name, call in calls.items():
      start = time.process_time()
      call()
      spent[name].append(time.process_time() - start)
  return {name: statistics.median(found) for name, found in spent.items()}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--times', type=int, default=15, help='that each is measured')
  times = parser.parse_args().times
  if importlib.util.find_spec('torch') is None:
    parser.error('PyTorch is not installed; pip install torch')
  import torch
  # Both sides with one thread, whatever the machine has.
  os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --xla_cpu_multi_thread_eigen=false'
  torch.set_num_threads(1)
  jax.config.update('jax_platforms', 'cpu')
  random = np.random.default_rng(0)
  for b, side, before, after in SHAPES:
    x, out = (random.standard_normal((b, side, side, c), np.float32) for c in (before, after))
    kernel = random.standard_normal((3, 3, before, after), np.float32)
    sides = {'xla': ours(x, kernel, out), 'torch': torchs(x, kernel, out, False),
             'torch_channels_last': torchs(x, kernel, out, True)}
    for direction in sides['xla']:
      calls = {name: side[direction] for name, side in sides.items()}
      wanted = np.asarray(calls['xla']())
      for name in ('torch', 'torch_channels_last'):
        np.testing.assert_allclose(as_ours(direction, calls[name]()), wanted, rtol=1e-3,
                                   atol=1e-4 * np.abs(wanted).max())
      flops = 2 * 9 * b * side * side * before * after
      spent = seconds(calls, times)
      common.show({'examples': b, 'side': side, 'channels': [before, after],
                   'direction': direction,
                   **{f'gflops_{name}': round(flops / s / 1e9, 1) for name, s in spent.items()},
                   'ratio': round(spent['xla'] / min(spent['torch'],
                                                     spent['torch_channels_last']), 2)})


if __name__ == '__main__':
  main()
