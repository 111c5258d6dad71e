"""The ONNX graph of a page against JAX, and its weights in few bits."""
import json

import jax
import numpy as np
import pytest

from xmc_jax.cli.main import main
from xmc_jax.page import build, graph, runtime
from xmc_jax.pretrained import folder, model
from xmc_jax.pretrained.export import export
from xmc_jax.types import UserError
from xmc_jax.weight_files import int8

pytestmark = pytest.mark.slow
CAPTIONS = ['a red apple', 'the flag of France']


@pytest.mark.parametrize('dtype, bits', [('float16', 2), ('int8', 4)])
def test_it_draws_what_jax_draws_in_the_bits_of_the_model(trained, tmp_path, dtype, bits):
  for package in ('jax2onnx', 'onnx', 'onnx_ir', 'onnxruntime'):
    pytest.importorskip(package, reason=f'{package} is not installed')
  import onnxruntime
  export(trained, tmp_path / 'model', dtype=dtype, text=dtype)
  generator = model.from_folder(tmp_path / 'model')
  draw = graph.drawing(generator, str(tmp_path / 'model' / folder.TEXT_ENCODER))
  made = graph.convert(draw, generator.tokenizer.length, generator.z_features)
  whole = len(made.SerializeToString())
  graph.compact(made)
  small = made.SerializeToString()
  parts = {part: generator.tree[part] for part in ('params', 'frozen')}
  weights = 4 * sum(x.size for x in jax.tree.leaves(parts))
  assert whole - len(small) > 0.9 * weights * (1 - 1 / bits) - 1e5
  session = onnxruntime.InferenceSession(small)
  inputs = generator.inputs(CAPTIONS, seed=3)
  found = [session.run([graph.OUTPUT], {key: inputs[key][i:i + 1] for key in graph.INPUTS})[0]
           for i in range(len(CAPTIONS))]
  np.testing.assert_allclose(found, generator.generate(CAPTIONS, seed=3), atol=1e-4)


def test_a_run_becomes_a_page(trained, tmp_path, capsys):
  for package in ('jax2onnx', 'onnx', 'onnx_ir'):
    pytest.importorskip(package, reason=f'{package} is not installed')
  try:
    runtime.find()
  except UserError as error:
    pytest.skip(str(error))
  (tmp_path / 'try.txt').write_text('a blue bird\na red apple\n')
  argv = ['xmc', 'export', str(trained), f'--page={tmp_path / "page"}', '--step=2', '--webgpu',
          f'--captions={tmp_path / "try.txt"}']
  (tmp_path / 'page' / 'model').mkdir(parents=True)
  (tmp_path / 'page' / build.FACTS).write_text('{}')      # a page that is replaced
  assert main(argv) == 0
  assert 'step 2' in capsys.readouterr().out
  facts = json.loads((tmp_path / 'page' / build.FACTS).read_text())
  assert (facts['name'], facts['captions']) == ('run', ['a blue bird', 'a red apple'])
  for name, path in {'graph': 'model/graph.onnx.gz', 'wasm': 'runtime/ort.wasm.gz',
                     'gpu': 'runtime/ort-gpu.wasm.gz'}.items():
    assert facts['sizes'][name] == (tmp_path / 'page' / path).stat().st_size
  assert {path.name for path in tmp_path.iterdir()} == {'page', 'try.txt'}
  assert main([*argv, '--full']) == 2
  assert '--full' in capsys.readouterr().err


@pytest.mark.parametrize('words, name', [(['.'], 'whole'), (['emoji64'], 'emoji64')])
def test_a_page_has_the_name_of_its_model(trained, tmp_path, monkeypatch, words, name):
  export(trained, tmp_path / 'whole')
  names = []
  monkeypatch.setattr(build, 'write', lambda name, *_, **__: names.append(name) or {
      'weights': 'averaged', 'step': 1})
  monkeypatch.chdir(tmp_path / 'whole')
  assert main(['xmc', 'export', *words, f'--page={tmp_path / "page"}']) == 0
  assert names == [name]


def test_the_fewest_bits_that_hold_a_tensor():
  random = np.random.default_rng(0).normal(size=(6, 50, 7)).astype(np.float32)
  half = random.astype(np.float16).astype(np.float32)
  assert graph._fewest_bits(random)[0] is random
  assert graph._fewest_bits(half)[0].dtype == np.float16
  for outputs in (0, 1, 2):
    stored = int8.unpack(int8.pack({'x': random}, 'int8', outputs))['x']
    found, scale = graph._fewest_bits(stored)
    assert found.dtype == np.int8 and scale.size == random.shape[outputs]
    np.testing.assert_allclose(found * scale, stored, rtol=1e-6)
  lowest = np.full((8, 8), np.finfo(np.float32).min)
  assert graph._fewest_bits(lowest)[0] is lowest
  assert graph._fewest_bits(np.zeros((8, 8), np.float32))[0].dtype == np.int8


def test_captions_to_try_fit_into_the_model(monkeypatch):
  """The page refuses a caption that Python would cut, and checks itself with the first one."""
  class Split:
    def __len__(self):
      return 1000

    def captions(self, index):
      return ['a red apple ' * 20] if index % 2 else ['a red apple']
  monkeypatch.setattr(build.sources, 'load', lambda *_, **__: Split())
  shipped = model.load('emoji64').generator
  for own in (False, True):
    assert build.of_data(shipped.config, shipped.tokenizer, own=own) == ['a red apple']


@pytest.mark.parametrize('name, own, loaded', [
    ('somebodys.module', False, None), ('somebodys.module', True, None),      # is not imported
    ('records', False, None), ('private', False, None), ('coco2014', False, {}),
    *((name, True, {'folder': 'private'}) for name in ('records', 'private', 'coco2014'))])
def test_the_config_of_a_model_shows_nobodys_own_captions(monkeypatch, name, own, loaded):
  seen = []

  def load(name, split, size, **options):
    seen.append(options)
    raise UserError('is not here')
  monkeypatch.setattr(build.sources, 'load', load)
  config = model.load('emoji64').generator.config.copy_and_resolve_references()
  with config.unlocked():
    config.data.name, config.data.options = name, {'folder': 'private'}
  assert build.of_data(config, None, own=own) == []
  assert seen == ([] if loaded is None else [loaded])
