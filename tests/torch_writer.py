"""Writes state dicts as torch does, in both of its formats, without torch."""
import operator
import pickle
import struct
import zipfile

import numpy as np

_MAGIC, _VERSION = 0x1950a86a20f9469cfc6c, 1001


def _text(value):
  return b'X' + struct.pack('<I', len(value)) + value.encode()


def _numbers(values):
  return b'(' + b''.join(b'J' + struct.pack('<i', value) for value in values) + b't'


def _tensor(key, array, view):
  """The call that makes a tensor of the whole storage `key`."""
  strides = [stride // array.itemsize for stride in array.strides]
  storage = b'(' + _text('storage') + b'ctorch\nFloatStorage\n' + _text(key) + _text('cpu')
  storage += b'J' + struct.pack('<i', array.size) + view + b'tQ'
  return (b'ctorch._utils\n_rebuild_tensor_v2\n(' + storage + b'K\x00' + _numbers(array.shape) +
          _numbers(strides) + b'\x89ccollections\nOrderedDict\n)RtR')


def _old(tensor):
  """The call of torch up to 0.3."""
  return (tensor.replace(b'_rebuild_tensor_v2', b'_rebuild_tensor')
          .replace(b'\x89ccollections\nOrderedDict\n)RtR', b'tR'))


_PARAMETER = b'ctorch.nn.parameter\nParameter\n'
# How a file of torch up to 0.4 may hold a tensor.
OLD_FORMS = {
    'tensor': lambda tensor: tensor,
    'call': lambda tensor: _PARAMETER + tensor + b'\x88\x86R',
    'new': lambda tensor: _PARAMETER + tensor + b'\x88\x86\x81',
    # tensor, creator, hooks, requires_grad, volatile
    'state': lambda tensor: (_PARAMETER + b')\x81(' + tensor + b'Nccollections\nOrderedDict\n)R'
                             b'\x88\x89tb')}


def write(path, state, zipped, old=None):
  """Writes {name: float32 array} as a zip archive, or as the stream of torch before 1.6.

  old: one of OLD_FORMS, for the stream that Python 2 and torch up to 0.4 wrote.
  """
  arrays = [np.array(array, np.float32, order='C') for array in state.values()]
  tensors = [_tensor(str(key), array, b'' if zipped else b'N') for key, array in enumerate(arrays)]
  ordered = b'\x80\x02ccollections\nOrderedDict\n'
  if old:      # a call with a list of pairs
    pairs = b''.join(b'](' + _text(name) + OLD_FORMS[old](_old(tensor)) + b'e'
                     for name, tensor in zip(state, tensors))
    tree = ordered + b'](' + pairs + b'e\x85R.'
  else:
    tree = ordered + b')R(' + b''.join(map(operator.concat, map(_text, state), tensors)) + b'u.'
  if zipped:
    with zipfile.ZipFile(path, 'w') as file:
      file.writestr('archive/data.pkl', tree)
      for key, array in enumerate(arrays):
        file.writestr(f'archive/data/{key}', array.tobytes())
  else:
    with open(path, 'wb') as file:
      for value in (_MAGIC, _VERSION, {'little_endian': True}):
        file.write(pickle.dumps(value, protocol=2))
      file.write(tree)
      file.write(pickle.dumps([str(key) for key in range(len(arrays))], protocol=2))
      for array in arrays:
        file.write(struct.pack('<q', array.size) + array.tobytes())
