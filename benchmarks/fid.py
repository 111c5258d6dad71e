"""Measures the speed of FID features on this machine, and of torch-fidelity if it is installed.

  python benchmarks/fid.py
  python benchmarks/fid.py --rows 16,64 --rounds 10

From uint8 images in memory to pool features in memory: resize, input range and network of the
protocol tf2015, with random weights, which cost as much as real ones. Both libraries get the same
images and weights in the same process, batch by batch in turn, so that changes in the load of the
machine affect both alike. A second line has the time of the last step, the distance of two
Gaussians.

A batch is divided among all devices, and a CPU counts as a device for each core, at most eight, as
in `xmc evaluate`. (With one device for all cores, they wait for each other a third of the time.)
JAX_NUM_CPU_DEVICES sets another number, which must divide --rows.

  images_per_second, seconds     medians over the rounds, wall-clock time
  images_per_processor_second    by CPU time of all threads: steadier if the machine is shared
  difference                     of the features, relative L2
  ratio, ratio_range             torch-fidelity's time divided by ours, per round: median, range
  ratio_of_processor_time        the same with CPU time
"""
import argparse
import importlib.util
import pathlib
import time

import common
import jax
import numpy as np

from xmc_jax.encoders import inception
from xmc_jax.evals import resize
from xmc_jax.evals.frechet import frechet_distance
from xmc_jax.evals.protocols import centered
from xmc_jax.training import mesh as meshes
from xmc_jax.utils import machine

TOOL = pathlib.Path(__file__).parents[1] / 'tools' / 'inception_goldens.py'


def load_tool():
  """The module that creates random weights and images, and runs torch-fidelity with them."""
  spec = importlib.util.spec_from_file_location('inception_goldens', TOOL)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def installed(package: str) -> bool:
  return importlib.util.find_spec(package) is not None


def ours(arrays):
  """The function from uint8 images [b, h, w, 3] to pool features, on all devices."""
  mesh = meshes.make_mesh()
  rows = meshes.by_row(mesh, rounds=False)
  module = inception.Inception('tf2015')
  variables = meshes.put_whole(inception.from_torch(arrays, 'tf2015'), meshes.replicated(mesh))

  @jax.jit
  def features(variables, images):
    return module.apply(variables, centered(resize.tf1_bilinear(images))).pool

  return lambda images: np.asarray(features(variables, jax.device_put(images, rows)))


def theirs(arrays, tool, threads: int | None):
  """The same by torch-fidelity, with `threads` instead of torch's default."""
  import torch
  if threads:
    torch.set_num_threads(threads)
  net = tool.torch_fidelity_net(arrays, ['2048'])

  def features(images):
    with torch.no_grad():
      return net(torch.from_numpy(tool.channels_first(images)))[0].numpy()

  return features


def timed(function, *args) -> tuple[float, float]:
  """Wall-clock seconds and CPU seconds of all threads."""
  clock, processor = time.perf_counter(), time.process_time()
  function(*args)
  return time.perf_counter() - clock, time.process_time() - processor


def in_turn(functions: dict, rounds: int, *args) -> dict[str, np.ndarray]:
  """Seconds [rounds, 2] of each function, as by `timed`; a first call is not counted."""
  for function in functions.values():
    function(*args)
  seconds = {name: [] for name in functions}
  for _ in range(rounds):
    for name, function in functions.items():
      seconds[name].append(timed(function, *args))
  return {name: np.array(values) for name, values in seconds.items()}


def compared(seconds: dict[str, np.ndarray]) -> dict:
  """The speedup over torch-fidelity: median over rounds, and range."""
  if len(seconds) == 1:
    return {}
  ratios = seconds['torch_fidelity'] / seconds['xmc_jax']
  clock, processor = np.median(ratios, axis=0)
  extremes = [round(float(ratio), 2) for ratio in (ratios[:, 0].min(), ratios[:, 0].max())]
  return {'ratio': round(clock, 2), 'ratio_range': extremes,
          'ratio_of_processor_time': round(processor, 2)}


def features_case(functions: dict, images: np.ndarray, rounds: int) -> dict:
  found = {name: function(images) for name, function in functions.items()}
  seconds = in_turn(functions, rounds, images)
  facts = {'case': 'features', 'px': images.shape[1], 'rows': len(images), 'rounds': rounds}
  for name, values in seconds.items():
    clock, processor = len(images) / np.median(values, axis=0)
    facts[name] = {'images_per_second': round(clock, 2),
                   'images_per_processor_second': round(processor, 2)}
  if len(found) > 1:
    mine, others = found.values()
    facts['difference'] = float(np.linalg.norm(mine - others) / np.linalg.norm(others))
  return facts | compared(seconds)


def frechet_case(features: int, rounds: int, other: bool) -> dict:
  """Times the distance of two Gaussians with a decaying spectrum, as features have."""
  random = np.random.default_rng(0)
  rows = random.standard_normal((2, 2 * features, features)) / np.sqrt(1 + np.arange(features))
  (mean1, cov1), (mean2, cov2) = ((x.mean(0), np.cov(x, rowvar=False)) for x in rows)
  functions = {'xmc_jax': lambda: frechet_distance(mean1, cov1, mean2, cov2)}
  if other:
    from torch_fidelity.metric_fid import fid_statistics_to_metric
    stats = [{'mu': mean, 'sigma': cov} for mean, cov in ((mean1, cov1), (mean2, cov2))]
    functions['torch_fidelity'] = lambda: fid_statistics_to_metric(*stats, verbose=False)
  seconds = in_turn(functions, rounds)
  facts = {'case': 'frechet', 'features': features, 'rounds': rounds}
  for name, values in seconds.items():
    facts[name] = {'seconds': round(float(np.median(values[:, 0])), 3)}
  return facts | compared(seconds)


def machine_facts(other: bool) -> dict:
  facts = {'cores': machine.cores(), 'devices': len(jax.devices()),
           'device': jax.devices()[0].device_kind, 'jax': jax.__version__}
  if other:
    import torch
    facts |= {'torch': torch.__version__, 'torch_threads': torch.get_num_threads()}
  return facts


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--rows', type=lambda text: [int(rows) for rows in text.split(',')],
                      default=[16], help='batch sizes; 4 to 16 are fastest on CPUs')
  parser.add_argument('--px', type=int, default=256, help='pixels per side of the images')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--features', type=int, default=2048,
                      help='number of features in the last step; 0 skips it')
  parser.add_argument('--torch_threads', type=int, help="instead of torch's default")
  parser.add_argument('--alone', action='store_true', help='without torch-fidelity')
  args = parser.parse_args()
  meshes.one_cpu_device_a_core()                  # as `xmc evaluate` does
  devices = jax.device_count()
  if uneven := [rows for rows in args.rows if rows % devices]:
    parser.error(f'--rows={uneven[0]}: must be a multiple of the {devices} devices; '
                 'JAX_NUM_CPU_DEVICES=1 makes one of all cores')
  other = installed('torch_fidelity') and not args.alone
  tool = load_tool()
  arrays = tool.state_dict(1008)
  functions = {'xmc_jax': ours(arrays)}
  if other:
    functions['torch_fidelity'] = theirs(arrays, tool, args.torch_threads)
  for rows in args.rows:
    facts = features_case(functions, tool.images(rows, args.px), args.rounds)
    common.show(facts | machine_facts(other))
  if args.features:
    common.show(frechet_case(args.features, args.rounds, other) | machine_facts(other))


if __name__ == '__main__':
  main()
