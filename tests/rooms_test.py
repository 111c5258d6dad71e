"""The package has floors: a module imports only from floors below; few import outside libraries."""
import ast
import functools
import pathlib
import re

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / 'xmc_jax'

# From the bottom up. Packages of one floor do not import each other. Weight files and encoders need
# so little of the rest that they can be used without it.
FLOORS = [
    ('types',),
    ('utils', 'config'),
    ('layers', 'losses', 'data', 'training'),
    ('weight_files',),
    ('encoders',),
    ('networks', 'evals', 'prepare'),
    ('methods',),
    ('distributed', 'sampler'),
    ('sampling', 'describe'),
    ('evaluator', 'evaluate_soa', 'pretrained'),
    ('curve',),
    ('trainer', 'preflight', 'importing', 'page', 'report'),
    ('cli',),
    ('api', '__main__'),
]
FLOOR = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}
ONLY = {'weight_files': {'types', 'utils'}, 'encoders': {'types', 'utils', 'weight_files'}}

# Outside libraries, and the modules or packages that may import them.
LIBRARIES = {
    'tensorflow': {'data/tf_data.py', 'prepare/tfds.py'},
    'tensorflow_datasets': {'prepare/tfds.py'},
    'orbax': {'training/checkpoint.py', 'training/durable.py'},
    'clu': {'training/metric_writer.py'},
    'absl.flags': {'cli'},
    'jax2onnx': {'page/graph.py'},
    'gradio': {'page/demo.py'},
    'ml_collections': {'config.py', 'methods', 'sampling.py', 'describe.py', 'trainer.py',
                       'curve.py', 'preflight.py', 'api.py', 'importing.py', 'cli',
                       'evals/extra_metrics.py'},
}
FAMILIES = r'xmc(?!_jax)|attngan|dm_gan|df_?gan|ssa_?gan|galip'


@functools.cache
def modules():
  """{path inside the package: its syntax tree}."""
  return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text())
          for path in sorted(PACKAGE.rglob('*.py'))}


def room(path):
  """The package or top-level module that a path belongs to; None for the package itself."""
  name = path.split('/')[0].removesuffix('.py')
  return None if name == '__init__' else name


def imports(tree):
  """Dotted names of everything that is imported anywhere in a module, inside functions too."""
  names = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, 'relative imports are not used in this package'
      names |= {f'{node.module}.{alias.name}' for alias in node.names}
  return names


def wrong_floors(path, tree):
  """Rooms that a module imports and may not."""
  rooms = {name.split('.')[1] for name in imports(tree) if name.startswith('xmc_jax.')}
  here, rooms = room(path), {r for r in rooms if r in FLOOR} - {room(path)}
  if here is None:
    return rooms
  return {r for r in rooms if FLOOR[r] >= FLOOR[here] or r not in ONLY.get(here, rooms)}


def wrong_libraries(path, tree):
  """Outside libraries that a module imports and may not."""
  used = {library for library in LIBRARIES for name in imports(tree)
          if f'{name}.'.startswith(f'{library}.')}
  return {library for library in used if not {path, room(path)} & LIBRARIES[library]}


def families(tree):
  """Identifiers and strings, docstrings left out, that name a family of networks."""
  documentation = {id(node.body[0].value) for node in ast.walk(tree)
                   if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
                   and node.body and isinstance(node.body[0], ast.Expr)}
  words = []
  for node in ast.walk(tree):
    if id(node) not in documentation:
      words += [str(value) for name, value in ast.iter_fields(node)
                if isinstance(value, str) and name in ('id', 'attr', 'name', 'arg', 'asname',
                                                       'module', 'value')]
  return {word for word in words if re.search(FAMILIES, word, re.IGNORECASE)}


def test_every_room_has_a_floor():
  assert {room(path) for path in modules()} - {None} == set(FLOOR)


@pytest.mark.parametrize('path', modules())
def test_imports_go_down(path):
  assert wrong_floors(path, modules()[path]) == set()


@pytest.mark.parametrize('path', modules())
def test_outside_libraries_have_one_door_each(path):
  assert wrong_libraries(path, modules()[path]) == set()


@pytest.mark.parametrize('path', [p for p in modules() if room(p) == 'training'])
def test_training_reads_no_text_of_compiled_programs(path):
  assert not re.search(r'\bas_text\b', (PACKAGE / path).read_text())


@pytest.mark.parametrize('path', [
    p for p in modules() if room(p) in ('training', 'losses') or p in (
        'methods/_steps.py', 'methods/_diagnostics.py', 'networks/base.py')])
def test_training_losses_and_steps_know_no_family(path):
  assert families(modules()[path]) == set()


@pytest.mark.parametrize('path, source, found', [
    ('layers/a.py', 'from xmc_jax.losses.b import c', {'losses'}),
    ('layers/a.py', 'from xmc_jax import trainer, utils', {'trainer'}),
    ('training/a.py', 'def f():\n  import xmc_jax.methods.b', {'methods'}),
    ('encoders/a.py', 'from xmc_jax.layers import conv', {'layers'}),
    ('sampling.py', 'from xmc_jax.cli.describe import table', {'cli'}),
    ('__init__.py', 'from xmc_jax.types import Array', {'types'}),
    ('trainer.py', 'from xmc_jax import __version__, sampling', set()),
    ('layers/a.py', 'from xmc_jax.layers import b', set())])
def test_a_wrong_floor_is_seen(path, source, found):
  assert wrong_floors(path, ast.parse(source)) == found


@pytest.mark.parametrize('path, source, found', [
    ('data/coco.py', 'def f():\n  import tensorflow as tf', {'tensorflow'}),
    ('training/step.py', 'from orbax.checkpoint import v1', {'orbax'}),
    ('trainer.py', 'from absl import flags, logging', {'absl.flags'}),
    ('training/optim.py', 'import ml_collections', {'ml_collections'}),
    ('trainer.py', 'from absl import logging', set()),
    ('data/tf_data.py', 'import tensorflow as tf', set()),
    ('methods/b.py', 'import ml_collections', set())])
def test_a_wrong_library_is_seen(path, source, found):
  assert wrong_libraries(path, ast.parse(source)) == found


def test_a_family_is_seen():
  source = '"""As in XMC-GAN."""\nfrom xmc_jax.x import XmcNetworks\nx.galip(name == "dm_gan")'
  assert families(ast.parse(source)) == {'XmcNetworks', 'dm_gan', 'galip'}
