"""Prepared sets are found by their names."""
import pathlib

import pytest
from noise_records import make_folder

from xmc_jax.data import prepared, records
from xmc_jax.data import source as sources
from xmc_jax.types import UserError


@pytest.fixture
def root(tmp_path, monkeypatch):
  monkeypatch.setenv('XMC_JAX_DATA', str(tmp_path))
  return tmp_path


def put(folder, size):
  return make_folder(folder, records.DatasetInfo('cub', size, ('a', 'b', 'c'), False), (3,), (2,))


def test_the_smallest_that_is_large_enough_is_taken(root):
  for size in (8, 16, 32):
    put(root / f'cub-{size}', size)
  (root / 'cub-large').mkdir()
  (root / 'cub-12').mkdir()                    # not finished
  for wanted, found in ((8, 8), (9, 16), (16, 16), (17, 32), (32, 32)):
    assert prepared.find('cub', wanted) == root / f'cub-{found}'
    source = sources.load('cub', 'train', wanted)
    assert source.info.size == found and source.image(0).shape == (wanted, wanted, 3)
    assert source.name == 'cub' and len(source) == 3


def test_an_option_names_another_folder(root, tmp_path):
  put(tmp_path / 'mine', 32)
  source = sources.load('cub', 'heldout', 32, folder=str(tmp_path / 'mine'), crop='center')
  assert len(source) == 2


def test_a_set_of_any_name_is_found(root):
  put(root / 'my-flowers-16', 16)
  assert len(sources.load('my-flowers', 'train', 16)) == 3
  (root / 'notes-16').write_text('not a folder')
  for name in ('my', 'flowers', 'notes'):
    with pytest.raises(UserError, match=f'--config.data.name={name}: there is no such data set'):
      sources.load(name, 'train', 16)


def test_the_folder_of_all_sets_may_have_any_name(tmp_path, monkeypatch):
  monkeypatch.setenv('XMC_JAX_DATA', str(tmp_path / 'data [1]*'))
  put(tmp_path / 'data [1]*' / 'cub-16', 16)
  assert len(sources.load('cub', 'train', 16)) == 3


def test_a_bucket_that_cannot_be_read_is_told(monkeypatch):
  monkeypatch.setenv('XMC_JAX_DATA', 'nowhere://bucket/data')
  with pytest.raises(UserError, match='^XMC_JAX_DATA=nowhere://bucket/data: .* cannot be listed'):
    sources.load('flowers', 'train', 16)


def test_by_default_the_root_is_the_folder_data(monkeypatch):
  monkeypatch.delenv('XMC_JAX_DATA', raising=False)
  assert prepared.folder_of('cub', 64) == pathlib.Path('data/cub-64')


@pytest.mark.parametrize('size, words', [
    (64, r'not prepared at 64 px or more in .*; prepare it with `xmc prepare cub --source DIR '
     r'--size 64`, or give its folder with --config.data.options.folder=FOLDER'),
    (12, 'cub-12 is not finished; run `xmc prepare cub --source DIR --size 12` again')])
def test_what_is_missing_is_told_with_its_command(root, size, words):
  put(root / 'cub-8', 8)
  (root / 'cub-12').mkdir()
  with pytest.raises(UserError, match=words):
    sources.load('cub', 'train', size)


def test_unknown_options_are_refused(root):
  put(root / 'cub-32', 32)
  with pytest.raises(UserError, match="'cub' does not take these options"):
    sources.load('cub', 'train', 32, shuffle=1)
