"""`xmc sample` draws what it is told to, and draws it again."""
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from xmc_jax.main import main
from xmc_jax.sampling import Artist, draw_noise


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
def artist(trained):
  return Artist.load(trained)


def same(a, b):
  return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_grid_and_one_file_for_each_picture(draw, capsys):
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
  assert '6 pictures of 2 captions with the averaged weights of step 4' in told


def test_four_pictures_are_drawn_into_the_run_if_nothing_else_is_told(trained, tmp_path):
  workdir = shutil.copytree(trained, tmp_path / 'run')
  assert main(['xmc', 'sample', f'--workdir={workdir}', '--caption=a red apple']) == 0
  assert len(list((workdir / 'samples').iterdir())) == 4 + 1


def test_same_seed_draws_the_same_and_another_seed_does_not(draw):
  first = draw('--caption=a red apple', '--seed=3')
  assert same(first, draw('--caption=a red apple', '--seed=3'))
  other = draw('--caption=a red apple', '--seed=4')
  assert not [name for name in first if np.array_equal(first[name], other[name])]


def test_caption_matters(artist):
  apple, cat = (artist.draw([caption]) for caption in ('a red apple', 'a black cat'))
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


def test_captions_of_a_file_come_after_those_of_the_command_line(draw, tmp_path):
  (tmp_path / 'captions.txt').write_text('a café\n\n  a black cat  \n', encoding='utf-8')
  files = draw('--caption=a red apple', f'--captions={tmp_path / "captions.txt"}', '--each=1')
  assert list(files) == ['000_a_red_apple_0.png', '001_a_caf_0.png', '002_a_black_cat_0.png',
                         'grid.png']


@pytest.mark.parametrize('n', [1, 32, 33, 70])
def test_any_number_of_captions_is_drawn_each_for_itself(artist, n):
  captions = [f'{number} apples' for number in range(n)]
  images = artist.draw(captions)
  assert images.shape == (n, 32, 32, 3) and images.dtype == np.float32
  assert images.min() >= 0 and images.max() <= 1
  changed = artist.draw([*captions[:-1], 'a black cat'])
  np.testing.assert_array_equal(changed[:-1], images[:-1])
  assert not np.array_equal(changed[-1], images[-1])


def test_low_truncation_draws_less_variety(artist):
  variety = lambda **options: artist.draw(16 * ['a red apple'], **options).std(axis=0).mean()
  assert variety(truncation=0.1) < 0.5 * variety(truncation=2.0) < 0.6 * variety()


def test_noise_is_normal_and_truncation_bounds_it():
  key = jax.random.key(0)
  free, bound = draw_noise(key, 500, 16), draw_noise(key, 500, 16, 0.5)
  assert free.shape == bound.shape == (500, 16) and free.dtype == np.float32
  assert np.std(free) == pytest.approx(1, abs=0.05) and np.abs(free).max() > 3
  assert np.abs(bound).max() <= 0.5 and np.abs(bound).max() > 0.49
  assert np.std(bound) == pytest.approx(0.5 / np.sqrt(3), abs=0.02)     # nearly uniform
  np.testing.assert_array_equal(free, draw_noise(key, 500, 16))
