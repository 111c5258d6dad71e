"""Folders of weights as they are met: wrapped, in several files, as pointers, damaged."""
import json
import re
import shutil
import struct

import jax
import numpy as np
import pytest
import torch_writer
from safetensors import numpy as safetensors_numpy
from toy_backbone import TOY

from xmc_jax.encoders import bert, damsm, image_backbones, vgg
from xmc_jax.encoders.features import variables_spec
from xmc_jax.types import UserError
from xmc_jax.weight_files import (
  files,
  hf_folders,
  keras_files,
  pickles,
  tf_graph_files,
  torch_files,
)

POINTER = 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 440449768\n'


@pytest.fixture
def folder(encoder_folder, tmp_path):
  """A copy of a tiny BERT."""
  return shutil.copytree(encoder_folder, tmp_path / 'bert')


def tensors(folder):
  return safetensors_numpy.load_file(folder / 'model.safetensors')


def assert_same(folder, other):
  jax.tree.map(np.testing.assert_array_equal, bert.load(folder)[1], bert.load(other)[1])


@pytest.mark.parametrize('name', [
    'module.{}', 'bert.{}', 'module.bert.{}', 'state_dict.{}', 'state_dict.module.{}', 'model.{}',
    'model_ema.module.text.{}', '_orig_mod.{}', 'bert.module.{}'])
@pytest.mark.parametrize('file', hf_folders.WHOLE)
def test_wrapped_names_give_the_same_network(folder, encoder_folder, name, file):
  wrapped = {name.format(key): x for key, x in tensors(folder).items()}
  (folder / 'model.safetensors').unlink()
  if file.endswith('.bin'):
    torch_writer.write(folder / file, wrapped, True)
  else:
    safetensors_numpy.save_file(wrapped, folder / file)
  assert_same(folder, encoder_folder)


def test_wrappers_inside_names_are_left_out(folder, encoder_folder):
  wrapped = {key.replace('encoder.', 'encoder.module.'): x for key, x in tensors(folder).items()}
  safetensors_numpy.save_file(wrapped, folder / 'model.safetensors')
  assert_same(folder, encoder_folder)


@pytest.mark.parametrize('prefixes, words', [
    (('model.', 'ema.'), ["'ema.' and 'model.'", '2 times']),
    (('', 'module.'), ['attention.output.dense.bias and module.encoder.', 'only one'])])
def test_two_networks_in_a_file_are_refused(folder, prefixes, words):
  both = {f'{prefix}{key}': x for key, x in tensors(folder).items() for prefix in prefixes}
  safetensors_numpy.save_file(both, folder / 'model.safetensors')
  with pytest.raises(UserError) as error:
    bert.load(folder)
  assert not [word for word in words if word not in str(error.value)], error.value


def test_other_names_are_told(folder):
  other = {key.replace('layer', 'block'): x for key, x in tensors(folder).items()}
  safetensors_numpy.save_file(other, folder / 'model.safetensors')
  with pytest.raises(UserError, match=r'no tensor encoder.layer.0.*named like embeddings\.'):
    bert.load(folder)


VGG = vgg.VggConvs(((4,),))


@pytest.mark.parametrize('prefix', ['', 'state_dict.', 'module.', 'state_dict.module.encoder.'])
@pytest.mark.parametrize('name', ['features.0.{}', 'features.module.0.{}'])
def test_networks_of_images_are_found_under_prefixes_too(prefix, name):
  values = {'weight': np.ones((4, 3, 3, 3)), 'bias': np.full(4, 2)}
  found = vgg.from_torch({prefix + name.format(leaf): x for leaf, x in values.items()}, VGG)
  assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, variables_spec(VGG, 32))
  assert np.all(found['params']['conv_0']['bias'] == 2)


@pytest.mark.parametrize('leaf', ['weight', 'bias'])
@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_by_name(leaf, value):
  state = {'features.0.weight': np.ones((4, 3, 3, 3)), 'features.0.bias': np.ones(4)}
  state[f'features.0.{leaf}'].flat[1] = value
  with pytest.raises(UserError, match=f'tensor features.0.{leaf} .*NaN or infinite'):
    vgg.from_torch(state, VGG)


def test_tensors_that_are_not_used_may_be_infinite(folder, encoder_folder):
  more = tensors(folder) | {'attention.mask': np.full((2, 2), -np.inf, np.float32)}
  safetensors_numpy.save_file(more, folder / 'model.safetensors')
  assert_same(folder, encoder_folder)


def shard(folder, file, spoil=lambda index: None):
  """Replaces model.safetensors by three shards and an index."""
  whole, places = tensors(folder), {}
  (folder / 'model.safetensors').unlink()
  for number in range(3):
    part = dict(list(whole.items())[number::3])
    stem, suffix = file.rsplit('.', 1)
    name = f'{stem}-{number + 1:05d}-of-00003.{suffix}'
    if suffix == 'bin':
      torch_writer.write(folder / name, part, True)
    else:
      safetensors_numpy.save_file(part, folder / name)
    places |= {key: name for key in part}
  index = {'metadata': {'total_size': 1}, 'weight_map': places}
  spoil(index)
  (folder / f'{file}.index.json').write_text(json.dumps(index))


@pytest.mark.parametrize('file', hf_folders.WHOLE)
def test_shards_give_the_same_network(folder, encoder_folder, file):
  shard(folder, file)
  assert bert.find(folder) == folder
  assert_same(folder, encoder_folder)
  before = hf_folders.sha256(folder)
  next(folder.glob('*-00002-of*')).write_bytes(b'')
  assert hf_folders.sha256(folder) != before


@pytest.mark.parametrize('spoil, words', [
    (lambda f: next(f.glob('*-00002-of-*')).unlink(), '00002-of-00003.*no such file'),
    (lambda f: next(f.glob('*-00003-of-*')).write_text(POINTER), '00003-of-00003.*git-lfs'),
    (lambda f: (f / 'model.safetensors.index.json').write_text('{}'), 'index.json.*weight_map'),
    (lambda f: (f / 'model.safetensors.index.json').write_text('{"weight_map": {"a": 3}}'),
     'index.json.*cannot be read'),
    (lambda f: (f / 'model.safetensors.index.json').write_text(
        '{"weight_map": {"a": "model.safetensors.index.json"}}'), 'none of weights'),
    (lambda f: shutil.copy(next(f.glob('*-00001-of-*')), next(f.glob('*-00002-of-*'))),
     '00002-of-00003.* has no tensor ')])
def test_shards_that_are_damaged(folder, spoil, words):
  shard(folder, 'model.safetensors')
  spoil(folder)
  with pytest.raises(UserError, match=words):
    bert.load(folder)


def test_floats_of_eight_bits_are_named(tmp_path):
  header = json.dumps({'a': {'dtype': 'F8_E4M3', 'shape': [4], 'data_offsets': [0, 4]}}).encode()
  (tmp_path / 'x.safetensors').write_bytes(struct.pack('<Q', len(header)) + header + bytes(4))
  with pytest.raises(UserError, match='8-bit floats'):
    files.read_safetensors(tmp_path / 'x.safetensors')


@pytest.mark.parametrize('file', ['x.safetensors', 'x.pth', 'x.h5', 'x.pkl', 'x.pb'])
def test_a_pointer_of_git_lfs_is_named_as_one(tmp_path, file):
  read = {'safetensors': files.read_safetensors, 'pth': torch_files.read, 'h5': keras_files.read,
          'pkl': pickles.read, 'pb': tf_graph_files.read}[file.partition('.')[2]]
  (tmp_path / file).write_text(POINTER)
  with pytest.raises(UserError, match=f'^{re.escape(str(tmp_path / file))} .*git lfs pull'):
    read(tmp_path / file)


def test_a_damsm_may_be_in_shards_and_under_prefixes(tmp_path, monkeypatch):
  monkeypatch.setitem(image_backbones.BACKBONES, 'toy', TOY)
  module = damsm.Damsm(7, 'toy', embedding=6, width=4)
  params = damsm.create(module, jax.random.key(0))
  damsm.save(tmp_path, module, params, '{}')
  wrapped = {f'model.{key}': x for key, x in tensors(tmp_path).items()}
  safetensors_numpy.save_file(wrapped, tmp_path / 'model.safetensors')
  shard(tmp_path, 'model.safetensors')
  jax.tree.map(np.testing.assert_array_equal, damsm.load_params(damsm.find(tmp_path), module),
               params)
  wrapped['model.captions/embed/embedding'][0, 0] = np.nan
  safetensors_numpy.save_file(wrapped, tmp_path / 'model.safetensors')
  with pytest.raises(UserError, match='model.captions/embed/embedding .*NaN'):
    damsm.load_params(tmp_path, module)
