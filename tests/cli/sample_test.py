"""`xmc sample`: images of the given captions, which the same command gives again."""
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
import torch_writer
from PIL import Image
from safetensors import numpy as safetensors_numpy

from xmc_jax.cli.main import main
from xmc_jax.encoders import bert
from xmc_jax.sampling import TextToImage, sample_noise
from xmc_jax.training import durable
from xmc_jax.weight_files.files import fingerprint

pytestmark = pytest.mark.slow


@pytest.fixture
def draw(trained, tmp_path):
  """Calls `xmc sample` on the tiny run; the files that it writes, {name: uint8 [h, w, 3]}."""
  def call(*flags):
    out = tmp_path / 'out'
    shutil.rmtree(out, ignore_errors=True)
    assert main(['xmc', 'sample', f'--workdir={trained}', f'--out={out}', *flags]) == 0
    return {path.name: np.asarray(Image.open(path)) for path in sorted(out.iterdir())}
  return call


@pytest.fixture(scope='module')
def model(trained):
  return TextToImage.load(trained)


@pytest.fixture
def moved(trained, encoder_folder, tmp_path, monkeypatch):
  """The tiny run on a machine where its encoder's path does not exist: (run, encoder elsewhere)."""
  monkeypatch.setenv('XMC_JAX_WEIGHTS', str(tmp_path / 'weights'))
  run = shutil.copytree(trained, tmp_path / 'run')
  for path in run.glob('checkpoints/*/meta/metadata'):
    rewrite(path, path.read_text().replace(str(encoder_folder), '/gone/to/my_bert'))
  elsewhere = shutil.copytree(encoder_folder, tmp_path / 'elsewhere')
  (elsewhere / 'tokenizer.json').unlink()      # the checkpoint has it
  return run, elsewhere


def sample(run, *flags):
  out = pathlib.Path(run, 'drawn')
  shutil.rmtree(out, ignore_errors=True)
  argv = ['xmc', 'sample', f'--workdir={run}', f'--out={out}', '--caption=a red apple']
  code = main([*argv, *flags])
  return code, {path.name: np.asarray(Image.open(path)) for path in out.glob('*.png')}


def rewrite(path, text):
  """Changes a file of a checkpoint, which would else count as damaged."""
  path.write_text(text)
  folder = path.parents[1]
  (folder / durable.CHECKSUMS).write_text(json.dumps(durable.checksums(folder)))


def change_numbers(folder):
  path = folder / 'model.safetensors'
  tensors = safetensors_numpy.load_file(path)
  tensors['embeddings.LayerNorm.weight'] = tensors['embeddings.LayerNorm.weight'] + 1e-3
  safetensors_numpy.save_file(tensors, path)


def test_a_run_on_another_machine_draws_the_same_with_its_encoder(moved, draw, capsys):
  run, encoder = moved
  assert sample(run)[0] == 2
  told = capsys.readouterr().err
  assert 'encoder /gone/to/my_bert of this run is not here, nor is' in told
  assert 'give its folder with --text_encoder FOLDER' in told
  code, files = sample(run, f'--text_encoder={encoder}')
  assert code == 0 and same(files, draw('--caption=a red apple'))


def test_the_encoder_is_found_by_name_among_the_weights(moved, tmp_path, draw):
  run, encoder = moved
  shutil.copytree(encoder, tmp_path / 'weights' / 'my_bert')
  code, files = sample(run)
  assert code == 0 and same(files, draw('--caption=a red apple'))


def test_torchs_file_of_the_same_numbers_is_the_same_encoder(moved, draw):
  run, encoder = moved
  tensors = safetensors_numpy.load_file(encoder / 'model.safetensors')
  (encoder / 'model.safetensors').unlink()
  torch_writer.write(encoder / 'pytorch_model.bin', tensors, zipped=True)
  code, files = sample(run, f'--text_encoder={encoder}')
  assert code == 0 and same(files, draw('--caption=a red apple'))


def test_another_encoder_is_refused_wherever_it_comes_from(moved, tmp_path, capsys):
  run, encoder = moved
  trained = json.loads((run / 'checkpoints/4/meta/metadata').read_text())['frozen']['text']
  change_numbers(encoder)
  assert sample(run, f'--text_encoder={encoder}')[0] == 2
  told = capsys.readouterr().err
  found = fingerprint(bert.load(encoder)[1])
  assert f'is {found} instead of {trained}' in told and str(encoder) in told
  shutil.copytree(encoder, tmp_path / 'weights' / 'my_bert')
  assert sample(run)[0] == 2
  assert 'is not the one that this run was trained with' in capsys.readouterr().err


def test_a_run_of_before_checkpoints_knew_their_encoder_draws_as_it_did(
    trained, tmp_path, draw):
  run = shutil.copytree(trained, tmp_path / 'run')
  for path in run.glob('checkpoints/*/meta/metadata'):
    meta = json.loads(path.read_text())
    del meta['frozen'], meta['tokenizer']
    rewrite(path, json.dumps(meta))
  code, files = sample(run)
  assert code == 0 and same(files, draw('--caption=a red apple'))


def same(a, b):
  return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_grid_and_one_file_for_each_image(draw, capsys):
  files = draw('--caption=A red Apple!', '--caption=a cat / dog', '--each=3')
  singles = [f'{caption}_{i}.png' for caption in ('000_a_red_apple', '001_a_cat_dog')
             for i in range(3)]
  assert list(files) == [*singles, 'grid.png']
  assert {files[name].shape for name in singles} == {(32, 32, 3)}
  for i, name in enumerate(singles[:3]):        # the first row, three times as large, on white
    left = 6 + 102 * i
    np.testing.assert_array_equal(files['grid.png'][6:102:3, left:left + 96:3], files[name])
  assert len({files[name].tobytes() for name in singles}) == 6
  told = capsys.readouterr().out
  assert '6 images of 2 captions with the averaged weights of step 4' in told


def test_four_images_are_drawn_into_the_run_if_nothing_else_is_told(trained, tmp_path):
  workdir = shutil.copytree(trained, tmp_path / 'run')
  assert main(['xmc', 'sample', f'--workdir={workdir}', '--caption=a red apple']) == 0
  assert len(list((workdir / 'samples').iterdir())) == 4 + 1


def test_same_seed_draws_the_same_and_another_seed_does_not(draw):
  first = draw('--caption=a red apple', '--seed=3')
  assert same(first, draw('--caption=a red apple', '--seed=3'))
  other = draw('--caption=a red apple', '--seed=4')
  assert not [name for name in first if np.array_equal(first[name], other[name])]


def test_caption_matters(model):
  apple, cat = (model.generate([caption]) for caption in ('a red apple', 'a black cat'))
  assert np.abs(apple - cat).max() > 1 / 255


def test_live_weights_differ_from_the_averaged_ones_and_steps_from_each_other(draw, capsys):
  averaged = draw('--caption=a red apple')
  capsys.readouterr()
  live = draw('--caption=a red apple', '--live')
  assert 'with the live weights of step 4' in capsys.readouterr().out
  assert not same(averaged, live)
  earlier = draw('--caption=a red apple', '--step=2')
  assert 'with the averaged weights of step 2' in capsys.readouterr().out
  assert not same(averaged, earlier)


def test_captions_may_be_positional(draw):
  flags = draw('--caption=a red apple', '--caption=a black cat', '--each=1')
  assert list(flags) == ['000_a_red_apple_0.png', '001_a_black_cat_0.png', 'grid.png']
  assert same(draw('--each=1', 'a red apple', 'a black cat'), flags)
  assert same(draw('a red apple', '--each=1', '--caption', 'a black cat'), flags)


def test_captions_of_a_file_come_after_those_of_the_command_line(draw, tmp_path):
  (tmp_path / 'captions.txt').write_text('a café\n\n  a black cat  \n', encoding='utf-8')
  files = draw('--caption=a red apple', f'--captions={tmp_path / "captions.txt"}', '--each=1')
  assert list(files) == ['000_a_red_apple_0.png', '001_a_caf_0.png', '002_a_black_cat_0.png',
                         'grid.png']


@pytest.mark.parametrize('n', [1, 32, 33, 70])
def test_any_number_of_captions_is_drawn_each_for_itself(model, n):
  captions = [f'{number} apples' for number in range(n)]
  images = model.generate(captions)
  assert images.shape == (n, 32, 32, 3) and images.dtype == np.float32
  assert images.min() >= 0 and images.max() <= 1
  changed = model.generate([*captions[:-1], 'a black cat'])
  np.testing.assert_array_equal(changed[:-1], images[:-1])
  assert not np.array_equal(changed[-1], images[-1])


def test_low_truncation_draws_less_variety(model):
  variety = lambda **options: model.generate(16 * ['a red apple'], **options).std(axis=0).mean()
  assert variety(truncation=0.1) < 0.5 * variety(truncation=2.0) < 0.6 * variety()


def test_noise_is_normal_and_truncation_bounds_it():
  key = jax.random.key(0)
  free, bound = sample_noise(key, 500, 16), sample_noise(key, 500, 16, 0.5)
  assert free.shape == bound.shape == (500, 16) and free.dtype == np.float32
  assert np.std(free) == pytest.approx(1, abs=0.05) and np.abs(free).max() > 3
  assert np.abs(bound).max() <= 0.5 and np.abs(bound).max() > 0.49
  assert np.std(bound) == pytest.approx(0.5 / np.sqrt(3), abs=0.02)     # nearly uniform
  np.testing.assert_array_equal(free, sample_noise(key, 500, 16))
