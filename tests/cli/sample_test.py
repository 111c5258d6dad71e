"""`xmc sample`: images of the given captions, which the same command gives again."""
import dataclasses
import json
import pathlib
import re
import shutil
import signal
import time

import numpy as np
import pytest
import tiny
import torch_writer
import toy_protocol
from PIL import Image
from safetensors import numpy as safetensors_numpy

from xmc_jax import methods, sampling
from xmc_jax.cli import sample as sample_command
from xmc_jax.cli.main import main
from xmc_jax.encoders import bert, registry
from xmc_jax.evals import protocols
from xmc_jax.sampler import Sampler
from xmc_jax.sampling import TextToImage, caption_noise
from xmc_jax.training import durable
from xmc_jax.types import UserError
from xmc_jax.weight_files.files import fingerprint

pytestmark = pytest.mark.slow


@pytest.fixture
def draw(trained, tmp_path):
  """Calls `xmc sample` on the tiny run; the images in its folder, {name: uint8 [h, w, 3]}."""
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


@pytest.mark.parametrize('key, value, setting', [
    ('layer_norm_eps', 0.5, 'text.eps is 0.5 instead of 1e-12'),
    ('num_attention_heads', 4, 'text.heads is 4 instead of 2')])
def test_an_encoder_with_other_settings_is_refused(moved, capsys, key, value, setting):
  run, encoder = moved
  path = encoder / 'config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
  assert sample(run, f'--text_encoder={encoder}')[0] == 2
  assert setting in capsys.readouterr().err


def test_a_run_of_before_checkpoints_knew_their_encoder_draws_as_it_did(
    trained, tmp_path, draw):
  run = shutil.copytree(trained, tmp_path / 'run')
  for path in run.glob('checkpoints/*/meta/metadata'):
    meta = json.loads(path.read_text())
    del meta['frozen'], meta['frozen_settings'], meta['tokenizer']
    rewrite(path, json.dumps(meta))
  code, files = sample(run)
  assert code == 0 and same(files, draw('--caption=a red apple'))


def same(a, b):
  return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_grid_and_one_file_for_each_image(draw, capsys, tmp_path):
  files = draw('--caption=A red Apple!', '--caption=a cat / dog', '--each=3')
  singles = [f'{caption}_{i}.png' for caption in ('000_a_red_apple', '001_a_cat_dog')
             for i in range(3)]
  assert list(files) == singles
  assert {files[name].shape for name in singles} == {(32, 32, 3)}
  grid = np.asarray(Image.open(tmp_path / 'out.png'))
  for i, name in enumerate(singles[:3]):        # the first row, three times as large, on white
    left = 6 + 102 * i
    np.testing.assert_array_equal(grid[6:102:3, left:left + 96:3], files[name])
  assert len({files[name].tobytes() for name in singles}) == 6
  told = capsys.readouterr().out
  assert '6 images of 2 captions with the averaged weights of step 4' in told
  assert f'all as a grid: {tmp_path / "out.png"}' in told and 'also holds' not in told


def test_four_images_are_drawn_into_the_run_if_nothing_else_is_told(trained, tmp_path):
  workdir = shutil.copytree(trained, tmp_path / 'run')
  assert main(['xmc', 'sample', f'--workdir={workdir}', '--caption=a red apple']) == 0
  assert len(list((workdir / 'samples').iterdir())) == 4 and (workdir / 'samples.png').is_file()


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
  assert list(flags) == ['000_a_red_apple_0.png', '001_a_black_cat_0.png']
  assert same(draw('--each=1', 'a red apple', 'a black cat'), flags)
  assert same(draw('a red apple', '--each=1', '--caption', 'a black cat'), flags)


def test_captions_of_a_file_come_after_those_of_the_command_line(draw, tmp_path):
  (tmp_path / 'captions.txt').write_text('a café\n\n  a black cat  \n', encoding='utf-8')
  files = draw('--caption=a red apple', f'--captions={tmp_path / "captions.txt"}', '--each=1')
  assert list(files) == ['000_a_red_apple_0.png', '001_a_caf_0.png', '002_a_black_cat_0.png']


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
  captions = 500 * ['a red apple']
  free, bound = caption_noise(captions, 16, 0), caption_noise(captions, 16, 0, 0.5)
  assert free.shape == bound.shape == (500, 16) and free.dtype == np.float32
  assert np.std(free) == pytest.approx(1, abs=0.05) and np.abs(free).max() > 3
  assert np.abs(bound).max() <= 0.5 and np.abs(bound).max() > 0.49
  assert np.std(bound) == pytest.approx(0.5 / np.sqrt(3), abs=0.02)     # nearly uniform
  for noise in (free, bound):
    assert len(np.unique(noise[:, 0])) == 500
    assert abs(np.corrcoef(noise.T) - np.eye(16)).max() < 0.2


def test_noise_belongs_to_seed_caption_and_copy():
  alone = caption_noise(['a cat'], 16, 3)[0]
  among = caption_noise(['a dog', 'a  cat ', *40 * ['a bird'], 'a cat'], 16, 3)
  np.testing.assert_array_equal(among[1], alone)
  np.testing.assert_array_equal(among[-1], caption_noise(2 * ['a cat'], 16, 3)[1])
  np.testing.assert_array_equal(among[2:12], caption_noise(10 * ['a bird'], 16, 3))
  assert len({row.tobytes() for row in among}) == len(among)
  assert not np.array_equal(caption_noise(['a cat'], 16, 4)[0], alone)


@pytest.mark.parametrize('flags', [[], ['--truncation=0.5'], ['--live', '--step=2']])
def test_a_line_of_a_file_is_drawn_again_alone(draw, tmp_path, flags):
  lines = [f'{number} apples' for number in range(40)]      # more than a batch
  (tmp_path / 'captions.txt').write_text('\n'.join(lines))
  whole = draw(f'--captions={tmp_path / "captions.txt"}', '--each=2', '--seed=3', *flags)
  alone = draw(lines[36], '--seed=3', *flags)               # four copies: two more
  for copy in range(2):
    np.testing.assert_array_equal(alone[f'000_36_apples_{copy}.png'],
                                  whole[f'036_36_apples_{copy}.png'])
  assert len({image.tobytes() for image in alone.values()}) == 4


def test_captions_are_cleaned_as_those_of_the_training_are(draw, tmp_path):
  (tmp_path / 'captions.txt').write_bytes('salt &amp;\x0cpepper\u2028mill\r'.encode())
  expected = draw('salt & pepper mill', '--each=1')
  for flags in (['\ufeffsalt &amp; pepper\x85mill'], [f'--captions={tmp_path / "captions.txt"}']):
    found = draw(*flags, '--each=1')
    np.testing.assert_array_equal(*(one['000_salt_pepper_mill_0.png'] for one in (found, expected)))


def test_the_best_of_several_is_the_one_that_the_discriminator_chooses(model):
  """With the brightness of the image in the place of what a discriminator says."""
  def match(params, stats, frozen, batch, images):
    return params['sign'] * images.mean((1, 2, 3))
  method = dataclasses.replace(model.method, match=match)
  captions, seed = ['a cat', 'a dog', 'a cat'], 5
  # Copies of a caption are numbered through the whole list.
  six, three = model.generate(['a cat'] * 6, seed=seed), model.generate(['a dog'] * 3, seed=seed)
  choices = six[:3], three, six[3:]
  for sign, pick in ((1.0, np.argmax), (-1.0, np.argmin)):
    chooser = dataclasses.replace(model, method=method, _sampler=Sampler(method, model.mesh, 4)
                                  ).of_networks({'params': {'sign': sign}, 'stats': {}}, {})
    best = chooser.generate(captions, seed=seed, best_of=3)
    assert best.shape == (3, *six.shape[1:])
    for image, among in zip(best, choices):
      np.testing.assert_allclose(image, among[pick(among.mean((1, 2, 3)))], atol=1e-5)
    searched = chooser.generate(captions, seed=seed, best_of=3, latent_steps=4)
    assert (sign * (searched - best).mean((1, 2, 3)) > 0).all()
    # The noise that is searched is that of the image that was chosen.
    rows = [3 * i + pick(among.mean((1, 2, 3))) for i, among in enumerate(choices)]
    repeated = [caption for caption in captions for _ in range(3)]
    inputs = {name: x[rows] for name, x in chooser.inputs(repeated, seed=seed).items()}
    wanted = [image for image, _ in chooser._sampler(chooser.tree, captions, inputs, 4)]
    np.testing.assert_allclose(searched, wanted, atol=1e-4)
    np.testing.assert_allclose(chooser.generate(captions[:1], seed=seed, best_of=3, latent_steps=4),
                               searched[:1], atol=1e-4)
  with pytest.raises(UserError, match='--best_of: the method toy_methods.quick does not say'):
    model.generate(['a cat'], best_of=2)
  with pytest.raises(UserError, match='--best_of and --latent_steps: the method'):
    model.generate(['a cat'], best_of=2, latent_steps=1)
  with pytest.raises(UserError, match='--latent_steps: the method'):
    model.generate(['a cat'], latent_steps=1)
  with pytest.raises(UserError, match='--best_of=0'):
    model.generate(['a cat'], best_of=0)
  with pytest.raises(UserError, match='--latent_steps=-1'):
    model.generate(['a cat'], latent_steps=-1)


@pytest.mark.parametrize('size', [8, 16, 64])
def test_the_size_of_the_compiled_batch_changes_nothing_but_rounding(model, size):
  captions = [f'{number} apples' for number in range(20)]
  method = methods.build(model.config)
  other = dataclasses.replace(model, _sampler=Sampler(method, model.mesh, size))
  np.testing.assert_allclose(other.generate(captions), model.generate(captions), atol=1e-5)


def test_the_folder_can_be_measured_as_it_is_and_old_images_are_told(
    trained, tmp_path, capsys, monkeypatch):
  monkeypatch.setitem(protocols.PROTOCOLS, 'toy', toy_protocol.PROTOCOL)
  monkeypatch.setattr(registry, 'load', toy_protocol.load)
  monkeypatch.setenv('XMC_JAX_CACHE', str(tmp_path / 'cache'))
  out = tmp_path / 'out'
  command = ['xmc', 'sample', f'--workdir={trained}', f'--out={out}']
  assert main([*command, 'a cat', 'a dog', '--each=6']) == 0
  argv = ['xmc', 'compare', f'--images={out}', f'--reference={out}', '--protocol=toy']
  assert main(argv) == 0
  assert re.search(r'12 images of .* against 12 of', capsys.readouterr().out)
  assert main([*command, 'a cat', '--each=2']) == 0
  told = capsys.readouterr().out
  assert f'{out} also holds 10 images' in told and '000_a_cat_2.png' in told


def test_a_grid_of_many_images_shows_the_first_ones(draw, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(sample_command, '_MOST_IN_GRID', 10)
  (tmp_path / 'captions.txt').write_text('\n'.join(f'{number} apples' for number in range(1001)))
  files = draw(f'--captions={tmp_path / "captions.txt"}', '--each=1')
  assert list(files)[-1] == '1000_1000_apples_0.png' and len(files) == 1001
  assert 'the first 10 as a grid' in capsys.readouterr().out
  assert Image.open(tmp_path / 'out.png').size[0] == 6 + 8 * 102


@pytest.mark.parametrize('wrong', [np.nan, np.inf])
def test_an_image_that_is_not_finite_is_refused_with_its_caption(
    trained, tmp_path, monkeypatch, capsys, wrong):
  def broken(method, *options):
    def sample(params, stats, frozen, batch, z):
      images = method.sample(params, stats, frozen, batch, z)
      return images.at[2, 0, 0, 0].set(wrong)
    return Sampler(dataclasses.replace(method, sample=sample), *options)
  monkeypatch.setattr(sampling, 'Sampler', broken)
  argv = ['xmc', 'sample', f'--workdir={trained}', f'--out={tmp_path / "out"}']
  assert main([*argv, 'a cat', 'a dog', 'a bird', '--each=1']) == 2
  told = capsys.readouterr().err
  assert 'NaN or infinity' in told and "'a bird'" in told and told.count('\n') == 1
  assert [path.name for path in sorted((tmp_path / 'out').iterdir())] == [
      '000_a_cat_0.png', '001_a_dog_0.png']


def test_ctrl_c_ends_with_one_line(trained, tmp_path):
  (tmp_path / 'captions.txt').write_text('\n'.join(f'{number} apples' for number in range(9999)))
  process = tiny.start(['xmc', 'sample', f'--workdir={trained}', f'--out={tmp_path / "out"}',
                        f'--captions={tmp_path / "captions.txt"}'])
  while process.poll() is None and not any(tmp_path.glob('out/*.png')):
    time.sleep(0.05)
  process.send_signal(signal.SIGINT)
  told, _ = process.communicate()
  assert process.returncode == 130 and told == 'xmc: interrupted\n'


@pytest.mark.parametrize('below', ['', 'new', 'new/er'])
def test_out_that_is_a_file_or_inside_one_is_refused_first(tmp_path, capsys, below):
  (tmp_path / 'out').write_text('')
  argv = ['xmc', 'sample', '--workdir=nowhere', f'--out={tmp_path / "out" / below}', 'a cat']
  assert main(argv) == 2
  said = capsys.readouterr().err
  assert f'--out={tmp_path / "out" / below}: ' in said and 'is a file; give a folder' in said


def test_the_grid_replaces_no_image_of_the_users(tmp_path, capsys):
  (tmp_path / 'photo.png').write_bytes(b'mine')
  argv = ['xmc', 'sample', '--workdir=nowhere', f'--out={tmp_path / "photo"}', 'a cat']
  assert main(argv) == 2
  assert f'would replace {tmp_path / "photo.png"}' in capsys.readouterr().err
  assert (tmp_path / 'photo.png').read_bytes() == b'mine' and not (tmp_path / 'photo').exists()


def test_another_step_has_its_own_discriminator(model):
  chooser = model.of_networks({'params': {}, 'stats': {}}, {})
  assert 'd' in chooser.tree
  earlier = chooser.at(2)
  assert earlier.step == 2 and 'd' not in earlier.tree
