"""Writes state dicts as torch does, in both of its formats, without torch."""
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


def write(path, state, zipped):
  """Writes {name: float32 array} as a zip archive, or as the stream of torch before 1.6."""
  arrays = [np.array(array, np.float32, order='C') for array in state.values()]
  items = b''.join(_text(name) + _tensor(str(key), array, b'' if zipped else b'N')
                   for key, (name, array) in enumerate(zip(state, arrays)))
  tree = b'\x80\x02ccollections\nOrderedDict\n)R(' + items + b'u.'
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
