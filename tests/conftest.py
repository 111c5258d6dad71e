"""What all tests share: eight devices on the CPU, a kept compile cache, and a tiny world.

Compiling is most of the time that the tests take. Programs are therefore compiled lightly, and
kept between runs in the folder XMC_JAX_CACHE, by default ~/.cache/xmc_jax_tests. Both also hold for
the processes that tests start.
"""
import os
import pathlib
import weakref

import versions

os.environ.setdefault('XMC_JAX_CACHE', str(pathlib.Path.home() / '.cache' / 'xmc_jax_tests'))
# Each worker of pytest-xdist has a core of its own; more threads would wait for one another.
for name in ('OPENBLAS_NUM_THREADS', 'OMP_NUM_THREADS'):
  os.environ.setdefault(name, '1')
if versions.OLDER_EMITTERS:      # which compile in less than half the time
  os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --xla_cpu_use_fusion_emitters=false'

import jax
import numpy as np
import pytest
from flax.core import scope
from jaxtyping import install_import_hook

import xmc_jax.types

# Shapes of arrays in these packages are checked, also of the numpy arrays that tests pass.
xmc_jax.types.Array = jax.Array | np.ndarray
install_import_hook(['xmc_jax.layers', 'xmc_jax.losses'], 'beartype.beartype')

import tiny
import toy_protocol
import toys

from xmc_jax import methods
from xmc_jax.cli.main import main
from xmc_jax.encoders import registry
from xmc_jax.evals import protocols

jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 8)        # like the next line before a backend starts
jax.config.update('jax_disable_most_optimizations', True)
jax.config.update('jax_compilation_cache_dir', os.environ['XMC_JAX_CACHE'])
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
jax.config.update('jax_persistent_cache_min_entry_size_bytes', 0)


class _RememberedShapes:
  """`jax` as flax.core.scope sees it, which asks for the shapes of an initializer only once.

  At each use of a parameter Flax traces its initializer, to compare the shapes: a sixth of the time
  of the tests of networks. The same function of the same values gives the same shapes.
  """
  known: dict[tuple, object] = {}

  def __getattr__(self, name):
    return getattr(jax, name)

  def eval_shape(self, function, *args):
    values = [cell.cell_contents for cell in function.__closure__ or ()]
    key = (function.__code__, *(tuple(x.items()) if isinstance(x, dict) else x for x in values))
    try:
      hash(key)
    except TypeError:
      key = None
    if args or key is None:
      return jax.eval_shape(function, *args)
    if key not in self.known:
      self.known[key] = jax.eval_shape(function)
    return self.known[key]


scope.jax = _RememberedShapes()


def pytest_addoption(parser):
  parser.addoption('--regenerate', action='store_true',
                   help='write the files of tests/goldens anew instead of comparing with them')


def pytest_collection_modifyitems(items):
  """Puts the slow tests in front, or one worker might be left with one of them at the end."""
  items.sort(key=lambda item: item.get_closest_marker('slow') is None)


# Folders whose tests, and the code that they try, never broadcast arrays of different rank
# silently.
SAME_RANK = ('layers', 'losses')


@pytest.fixture(autouse=True)
def same_rank(request):
  """No array's rank is promoted silently in the folders of `SAME_RANK`."""
  rule = 'raise' if request.path.parent.name in SAME_RANK else 'allow'
  with jax.numpy_rank_promotion(rule):
    yield


@pytest.fixture(autouse=True, scope='module')
def optimized(request):
  """Files of golden values compile as users do; all others lightly, see above."""
  if not request.path.stem.endswith('golden_test'):
    yield
    return
  jax.config.update('jax_disable_most_optimizations', False)
  yield
  jax.config.update('jax_disable_most_optimizations', True)


@pytest.fixture(autouse=True, scope='module')
def released():
  """Programs of a file are dropped after it, or a worker would come to hold gigabytes of them."""
  yield
  jax.clear_caches()


# Compiled programs of runs by all that decides them, the newest last; and how many are kept.
_PROGRAMS: dict[str, methods.Program] = {}
_TRACES: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()     # of these
_STEPS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()      # of these
_KEPT = 8
# Settings that say how long a run is and what it writes, not what a step computes.
_OUTSIDE = ('every', 'evals', 'grid', 'init', 'keep', 'keep_every', 'seed', 'steps')


@pytest.fixture
def compiled_once(monkeypatch):
  """Runs of the same networks in this process share one compiled program.

  Tracing and lowering it are most of the time that a run of a few steps takes. Not for tests that
  change what a step computes.
  """
  build, trace, compile_step = methods.program, methods.Program.trace, methods.Program.compile

  def program(method, config, mesh):
    facts = config.to_dict()
    facts['data'].pop('loader')
    facts = {name: value for name, value in facts.items() if name not in _OUTSIDE}
    key = repr((facts, mesh))
    found = _PROGRAMS[key] = _PROGRAMS.pop(key, None) or build(method, config, mesh)
    for oldest in list(_PROGRAMS)[:-_KEPT]:
      del _PROGRAMS[oldest]
    return found

  def compiled(self):
    if self not in _STEPS:
      _STEPS[self] = compile_step(self)
    return _STEPS[self]
  monkeypatch.setattr(methods, 'program', program)

  def traced(self):
    if self not in _TRACES:
      _TRACES[self] = trace(self)
    return _TRACES[self]
  monkeypatch.setattr(methods.Program, 'trace', traced)
  monkeypatch.setattr(methods.Program, 'compile', compiled)


@pytest.fixture
def filled(monkeypatch):
  """A run begins with the numbers of `toys.state`: compiling those of its seed takes seconds."""
  monkeypatch.setattr(methods.Program, 'init', toys.state)


@pytest.fixture
def toy(monkeypatch, tmp_path):
  """The protocol of toy_protocol.py, with caches and prepared data of this test alone."""
  monkeypatch.setitem(protocols.PROTOCOLS, 'toy', toy_protocol.PROTOCOL)
  monkeypatch.setattr(registry, 'load', toy_protocol.load)
  monkeypatch.setenv('XMC_JAX_CACHE', str(tmp_path / 'cache'))
  monkeypatch.setenv('XMC_JAX_DATA', str(tmp_path / 'data'))


@pytest.fixture
def strict():
  """No dtype is promoted silently. Not for all tests: optax.adam itself promotes its counter."""
  with jax.numpy_dtype_promotion('strict'):
    yield


@pytest.fixture(scope='session')
def text_folder(tmp_path_factory):
  """A folder with a text encoder of one layer of 8 features, with weights."""
  return toys.write_bert(tmp_path_factory.mktemp('bert'))


@pytest.fixture
def tiny_config(text_folder):
  """The config of an XMC-GAN of 32 px and 8 rows that compiles in seconds; unlocked."""
  return toys.tiny_config(text_folder)


@pytest.fixture(scope='session')
def encoder_folder(tmp_path_factory):
  """A folder with a text encoder of one layer of 8 features that reads English."""
  return tiny.write_encoder(tmp_path_factory.mktemp('encoder') / 'bert')


@pytest.fixture(scope='session')
def trained(tmp_path_factory, encoder_folder):
  """The folder of a tiny run of 4 steps with checkpoints at 2 and 4; copy it to change it."""
  workdir = tmp_path_factory.mktemp('trained') / 'run'
  assert main(tiny.train_argv(workdir, encoder_folder, data__loader='arrays')) == 0
  return workdir
