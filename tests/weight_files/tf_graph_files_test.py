"""The reader of frozen TensorFlow graphs, against graphs that TensorFlow and protobuf write."""
import io
import pathlib
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from tensorboard.compat.proto import graph_pb2, types_pb2

from xmc_jax.types import UserError
from xmc_jax.weight_files import tf_graph_files

KERNEL = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2) / 7


def graph():
  """A graph with constants in every way in which a graph may hold them, and other nodes."""
  found = graph_pb2.GraphDef()

  def constant(name, kind, shape, **fields):
    node = found.node.add(name=name, op='Const')
    tensor = node.attr['value'].tensor
    tensor.dtype = kind
    for side in shape:
      tensor.tensor_shape.dim.add(size=side)
    for key, value in fields.items():
      if key == 'tensor_content':
        tensor.tensor_content = value
      else:
        getattr(tensor, key).extend(value)

  constant('conv/conv2d_params', types_pb2.DT_FLOAT, KERNEL.shape, tensor_content=KERNEL.tobytes())
  constant('one', types_pb2.DT_FLOAT, (), float_val=[0.5])
  constant('same', types_pb2.DT_FLOAT, (2, 3), float_val=[1, 2])
  constant('zeros', types_pb2.DT_INT32, (2,))
  constant('half', types_pb2.DT_HALF, (2,), half_val=[0x3c00, 0xc000])
  constant('text', types_pb2.DT_STRING, (1,), string_val=[b'x'])
  found.node.add(name='conv', op='Conv2D', input=['x', 'conv/conv2d_params'])
  return found.SerializeToString()


def assert_graph(arrays):
  assert arrays.keys() == {'conv/conv2d_params', 'one', 'same', 'zeros', 'half'}
  np.testing.assert_array_equal(arrays['conv/conv2d_params'], KERNEL)
  assert arrays['one'].shape == () and arrays['one'] == 0.5
  np.testing.assert_array_equal(arrays['same'], [[1, 2, 2], [2, 2, 2]])
  np.testing.assert_array_equal(arrays['zeros'], [0, 0])
  np.testing.assert_array_equal(arrays['half'], [1, -2])


def test_numeric_constants_are_read_and_the_rest_is_left_out(tmp_path):
  (tmp_path / 'x.pb').write_bytes(graph())
  assert_graph(tf_graph_files.read(tmp_path / 'x.pb'))


def pack(folder, files, kind):
  path = folder / f'x.{kind}'
  if kind == 'zip':
    with zipfile.ZipFile(path, 'w') as archive:
      for name, data in files.items():
        archive.writestr(name, data)
  else:
    with tarfile.open(path, 'w:gz') as archive:
      for name, data in files.items():
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
  return path


@pytest.mark.parametrize('kind', ['zip', 'tgz'])
def test_the_published_archive_need_not_be_unpacked(tmp_path, kind):
  files = {'LICENSE': b'', 'classify_image_graph_def.pb': graph(), 'labels.pbtxt': b'x'}
  before = set(tmp_path.iterdir())
  path = pack(tmp_path, files, kind)
  assert_graph(tf_graph_files.read(path))
  assert set(tmp_path.iterdir()) == before | {path}
  with pytest.raises(UserError, match='holds 2 .pb files instead of one'):
    tf_graph_files.read(pack(tmp_path, files | {'b.pb': b''}, kind))


def test_constants_are_those_that_tensorflow_wrote(tmp_path):
  tf = pytest.importorskip('tensorflow')
  rng = np.random.default_rng(0)
  wanted = {
    'kernel': rng.normal(size=(3, 3, 2, 4)).astype(np.float32), 'double': rng.normal(size=2),
    'half': rng.normal(size=5).astype(np.float16), 'count': np.array([3, 4], np.int64),
    'bytes': np.arange(4, dtype=np.uint8), 'flags': np.array([True, False, True]),
    'same': np.full((4, 4), 2.5, np.float32), 'whole': np.array(3, np.int32)}
  with tf.Graph().as_default() as made:
    for name, value in wanted.items():
      tf.constant(value, name=name)
    tf.constant(2.5, shape=(7,), name='filled')
    tf.constant(rng.normal(size=3), tf.bfloat16, name='brain')
  (tmp_path / 'x.pb').write_bytes(made.as_graph_def().SerializeToString())
  arrays = tf_graph_files.read(tmp_path / 'x.pb')
  assert arrays.keys() == wanted.keys() | {'filled', 'brain'}
  for name, value in wanted.items():
    np.testing.assert_array_equal(arrays[name], value)
    assert arrays[name].dtype == value.dtype
  np.testing.assert_array_equal(arrays['filled'], np.full(7, 2.5))
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    tf.import_graph_def(made.as_graph_def(), name='')
    np.testing.assert_array_equal(arrays['brain'].astype(np.float32),
                                  session.run('brain:0').astype(np.float32))


def test_the_reader_does_not_import_tensorflow():
  import subprocess
  code = ('import sys, xmc_jax.weight_files.tf_graph_files\n'
          'sys.exit("tensorflow" in sys.modules)')
  subprocess.run([sys.executable, '-c', code], check=True,
                 cwd=pathlib.Path(tf_graph_files.__file__).parents[2])


def test_damaged_and_other_files_are_refused(tmp_path):
  with pytest.raises(UserError, match='absent.pb cannot be read: there is no such file'):
    tf_graph_files.read(tmp_path / 'absent.pb')
  path = tmp_path / 'x.pb'
  path.write_bytes(graph()[:-25])
  with pytest.raises(UserError, match=r'x\.pb cannot be read'):
    tf_graph_files.read(path)
  path.write_bytes(b'')
  with pytest.raises(UserError, match='not a frozen TensorFlow graph'):
    tf_graph_files.read(path)
  short = graph().replace(KERNEL.tobytes(), KERNEL.tobytes()[::-1])
  path.write_bytes(short.replace(b'\x12\x02\x08\x03', b'\x12\x02\x08\x05', 1))
  with pytest.raises(UserError, match='reshape'):
    tf_graph_files.read(path)
  (tmp_path / 'x.tgz').write_bytes(pack(tmp_path, {'a.pb': graph()}, 'tgz').read_bytes()[:60])
  with pytest.raises(UserError, match=r'x\.tgz cannot be read'):
    tf_graph_files.read(tmp_path / 'x.tgz')
