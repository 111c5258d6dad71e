"""The reader of torch's files: right about tensors in both formats, deaf to everything else.

`goldens/tiny_*.pth` were written by torch 2.13; where torch is installed, it writes them anew with

  pytest tests/weight_files/torch_files_test.py --regenerate
"""
import collections
import io
import os
import pathlib
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch_writer

from xmc_jax.types import UserError
from xmc_jax.weight_files import torch_files

GOLDENS = pathlib.Path(__file__).parent / 'goldens'
FORMATS = {'tiny_zip.pth': True, 'tiny_stream.pth': False}

BASE = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 8
WANTED = {
  'model.conv.weight': BASE, 'model.conv.turned': BASE.transpose(2, 0, 1),
  'model.conv.part': BASE[1, 1:], 'spread': np.full(5, 0.25, np.float32),
  'half': np.float16([1.5, -2]), 'brain': np.float32([0, 1, -2.5, 3e38]),
  'double': np.float64([1e-300]), 'count': np.array(7), 'flags': np.array([True, False]),
  'bytes': np.arange(3, dtype=np.uint8), 'nothing': np.zeros((0, 3), np.float32),
  'parameter': np.ones(2, np.float32)}


def tree(torch):
  """What torch keeps for WANTED: shared storages, strides, every type, and things beside them."""
  base = torch.tensor(BASE)
  model = collections.OrderedDict({
    'conv.weight': base, 'conv.turned': base.permute(2, 0, 1), 'conv.part': base[1, 1:]})
  model._metadata = {'': {'version': 1}}  # as in every state dict
  return {
    'model': model,
    'spread': torch.tensor([0.25]).expand(5), 'half': torch.tensor([1.5, -2]).half(),
    'brain': torch.tensor([0, 1, -2.5, 3e38]).bfloat16(),
    'double': torch.tensor([1e-300], dtype=torch.float64), 'count': torch.tensor(7),
    'flags': torch.tensor([True, False]), 'bytes': torch.arange(3, dtype=torch.uint8),
    'nothing': torch.zeros(0, 3), 'parameter': torch.nn.Parameter(torch.ones(2)),
    'epoch': 3, 'name': 'tiny', 'list': [1, 2]}


def assert_wanted(arrays):
  assert arrays.keys() == WANTED.keys()
  for name, value in WANTED.items():
    assert arrays[name].shape == value.shape
    if name == 'brain':
      np.testing.assert_allclose(arrays[name], value, rtol=2**-8)
    else:
      np.testing.assert_array_equal(arrays[name], value)
      assert arrays[name].dtype == value.dtype


@pytest.mark.parametrize('file', FORMATS)
def test_stored_files_of_both_formats_are_read(file):
  assert_wanted(torch_files.read(GOLDENS / file))


@pytest.mark.parametrize('file, zipped', FORMATS.items())
def test_files_of_the_installed_torch_are_read(tmp_path, request, file, zipped):
  torch = pytest.importorskip('torch')
  regenerate = request.config.getoption('regenerate')
  path = (GOLDENS if regenerate else tmp_path) / file
  torch.save(tree(torch), path, _use_new_zipfile_serialization=zipped)
  assert_wanted(torch_files.read(path))


@pytest.mark.parametrize('form', torch_writer.OLD_FORMS)
def test_files_of_torch_before_its_first_version_are_read(tmp_path, form):
  state = {'linear.weight': np.arange(6, dtype=np.float32).reshape(2, 3), 'linear.bias': np.ones(2)}
  torch_writer.write(tmp_path / 'old.pth', state, False, old=form)
  found = torch_files.read(tmp_path / 'old.pth')
  assert found.keys() == state.keys()
  for name, value in state.items():
    np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize('form', torch_writer.OLD_FORMS)
def test_torch_reads_the_same_of_them(tmp_path, form):
  torch = pytest.importorskip('torch')
  state = {'linear.weight': np.arange(6, dtype=np.float32).reshape(2, 3), 'linear.bias': np.ones(2)}
  torch_writer.write(tmp_path / 'old.pth', state, False, old=form)
  found = torch.load(tmp_path / 'old.pth', weights_only=False)
  for name, value in state.items():
    np.testing.assert_array_equal(found[name].detach().numpy(), value)


def test_an_archive_of_big_endian_numbers_is_read(tmp_path):
  def swapped(name, data):
    if name == '0':
      return np.frombuffer(data, '<f4').astype('>f4').tobytes()
    return b'big' if name == 'byteorder' else data

  path = rewritten(tmp_path, swapped)
  np.testing.assert_array_equal(torch_files.read(path)['model.conv.weight'], BASE)


def rewritten(folder, change, compression=zipfile.ZIP_STORED):
  """The stored archive with `change(last part of the name, bytes)` in place of the bytes."""
  with zipfile.ZipFile(GOLDENS / 'tiny_zip.pth') as old, \
      zipfile.ZipFile(folder / 'x.pth', 'w', compression) as new:
    for name in old.namelist():
      new.writestr(name, change(name.split('/')[-1], old.read(name)))
  return folder / 'x.pth'


class _Runs:

  def __init__(self, call, *arguments):
    self.reduced = call, arguments

  def __reduce__(self):
    return self.reduced


def archive(path, value):
  with zipfile.ZipFile(path, 'w') as file:
    file.writestr('x/data.pkl', pickle.dumps(value, protocol=2))


def stream(path, value):
  numbers = (torch_files._MAGIC, torch_files._VERSION, {'little_endian': True}, value, [])
  path.write_bytes(b''.join(pickle.dumps(x, protocol=2) for x in numbers))


@pytest.mark.parametrize('write', [archive, stream])
@pytest.mark.parametrize('call', [os.mkdir, eval])
def test_a_file_that_calls_something_is_refused_before_the_call(tmp_path, write, call):
  made = tmp_path / 'made'
  argument = str(made) if call is os.mkdir else f"__import__('os').mkdir({str(made)!r})"
  write(tmp_path / 'x.pth', {'weight': _Runs(call, argument)})
  with pytest.raises(UserError, match=r'x\.pth cannot be read: .* only tensors are allowed'):
    torch_files.read(tmp_path / 'x.pth')
  assert not made.exists()


def test_the_first_pickles_of_a_stream_may_not_call_anything_either(tmp_path):
  made = tmp_path / 'made'
  (tmp_path / 'x.pth').write_bytes(pickle.dumps(_Runs(os.mkdir, str(made)), protocol=2))
  with pytest.raises(UserError, match='are allowed'):
    torch_files.read(tmp_path / 'x.pth')
  assert not made.exists()


def hand_made(path, kind, arguments):
  """An archive with a storage of four numbers and a tensor of these arguments, byte by byte."""
  def text(value):
    return b'X' + struct.pack('<I', len(value)) + value.encode()

  def number(value):
    return b'J' + struct.pack('<i', value)

  def numbers(values):
    return b'(' + b''.join(map(number, values)) + b't'

  offset, shape, strides = arguments
  pid = b'(' + text('storage') + b'ctorch\n' + kind.encode() + b'\n' + text('0') + text('cpu')
  pid += number(4) + b't'
  call = b'ctorch._utils\n_rebuild_tensor_v2\n(' + pid + b'Q' + number(offset) + numbers(shape)
  call += numbers(strides) + b'\x89}t' + b'R'
  with zipfile.ZipFile(path, 'w') as file:
    file.writestr('x/data.pkl', b'\x80\x02}' + text('w') + call + b's.')
    file.writestr('x/data/0', np.arange(4, dtype=np.float32).tobytes())


@pytest.mark.parametrize('kind, arguments, message', [
  ('FloatStorage', (0, (2, 2), (2, 1)), None),
  ('FloatStorage', (1, (2, 2), (2, 1)), 'ends beyond its storage'),
  ('FloatStorage', (0, (2, 2), (1000000, 1)), 'ends beyond its storage'),
  ('FloatStorage', (-1, (2,), (1,)), 'of shape'),
  ('FloatStorage', (3, (2,), (-1,)), 'of shape'),
  ('FloatStorage', (0, (2, 2), (1,)), 'of shape'),
  ('DoubleStorage', (0, (2,), (1,)), 'has 2 numbers instead of 4'),
  ('QInt8Storage', (0, (2,), (1,)), 'refers to torch.QInt8Storage')])
def test_tensors_stay_inside_their_storage(tmp_path, kind, arguments, message):
  hand_made(tmp_path / 'x.pth', kind, arguments)
  if message is None:
    np.testing.assert_array_equal(torch_files.read(tmp_path / 'x.pth')['w'], [[0, 1], [2, 3]])
  else:
    with pytest.raises(UserError, match=message):
      torch_files.read(tmp_path / 'x.pth')


@pytest.mark.parametrize('file', FORMATS)
@pytest.mark.parametrize('left', [0, 10, 200, -30])
def test_a_file_that_was_cut_off_is_refused(tmp_path, file, left):
  data = (GOLDENS / file).read_bytes()
  (tmp_path / 'cut.pth').write_bytes(data[:left])
  with pytest.raises(UserError, match=r'cut\.pth cannot be read'):
    torch_files.read(tmp_path / 'cut.pth')


def test_a_changed_byte_of_an_archive_is_seen(tmp_path):
  data = bytearray((GOLDENS / 'tiny_zip.pth').read_bytes())
  at = data.index(BASE.tobytes()[:40]) + 20
  data[at] ^= 1
  (tmp_path / 'x.pth').write_bytes(data)
  with pytest.raises(UserError, match='CRC'):
    torch_files.read(tmp_path / 'x.pth')


def test_other_files_are_refused(tmp_path):
  with pytest.raises(UserError, match='there is no such file'):
    torch_files.read(tmp_path / 'absent.pth')
  buffer = io.BytesIO()
  np.savez(buffer, a=np.ones(3))
  (tmp_path / 'x.pth').write_bytes(buffer.getvalue())
  with pytest.raises(UserError, match='without a data.pkl'):
    torch_files.read(tmp_path / 'x.pth')
  (tmp_path / 'x.pth').write_bytes(pickle.dumps([1, 2]))
  with pytest.raises(UserError, match='not written by torch'):
    torch_files.read(tmp_path / 'x.pth')
  with pytest.raises(UserError, match='compressed'):
    torch_files.read(rewritten(tmp_path, lambda _, data: data, zipfile.ZIP_DEFLATED))
