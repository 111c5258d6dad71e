import concurrent.futures
import dataclasses
import io
import json
import multiprocessing
import pathlib
import pickle
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
from noise_records import ABOUT, make_folder, make_record, noise
from PIL import Image

from xmc_jax.data import records, shards
from xmc_jax.data import source as sources
from xmc_jax.types import UserError


@pytest.fixture
def folder(records_folder, tmp_path):
  """A copy to be damaged."""
  return shutil.copytree(records_folder, tmp_path / 'copy')


def load(folder, split='train', size=32, **options):
  return sources.load('records', split, size, folder=str(folder), **options)


def stored(number):
  """The whole image `number` as its codec gives it back; PNG and WebP are lossless here."""
  if number % 3 != 1:
    return noise(number)
  return np.asarray(Image.open(io.BytesIO(make_record(number).image)))


def test_what_goes_in_comes_out(records_folder):
  train, heldout = load(records_folder), load(records_folder, 'heldout')
  assert len(train) == 47 and len(heldout) == 5 and train.class_names == ('cat', 'dog', 'owl')
  for split, first in ((train, 0), (heldout, 47)):
    for i in range(len(split)):
      record = make_record(first + i)
      assert split.captions(i) == record.captions
      assert split.label(i) == record.labels[0] and split.label(i).dtype == np.int32
      assert split.flippable[i] == record.flippable
      assert split.record(i)['from'] == first + i


def test_crops_are_parts_of_the_image_at_their_place(records_folder):
  source = load(records_folder)
  seen = set()
  for i in range(len(source)):
    whole = stored(i)
    free = np.array(whole.shape[:2]) - 31              # places of the square
    for crop in ((0, 0), (0.999, 0.999), (0.3, 0.8)):
      y, x = (int(place * n) for place, n in zip(crop, free, strict=True))
      np.testing.assert_array_equal(source.image(i, crop), whole[y:y + 32, x:x + 32])
      seen |= {y == 0, y == free[0] - 1, x == free[1] - 1}
  assert seen == {True, False}


def test_the_middle_is_taken_by_default_or_always(records_folder):
  source, centred = load(records_folder), load(records_folder, crop='center')
  for i in range(10):
    whole = stored(i)
    y, x = ((extent - 31) // 2 for extent in whole.shape[:2])
    for image in (source.image(i), centred.image(i), centred.image(i, (0, 0.9))):
      np.testing.assert_array_equal(image, whole[y:y + 32, x:x + 32])


def test_a_run_at_a_smaller_size_gets_reduced_images(tmp_path):
  y, x = np.mgrid[:40, :48]
  file = io.BytesIO()
  Image.fromarray(np.stack([4 * y, 4 * x, 2 * (x + y)], -1).astype(np.uint8)).save(file, 'PNG')
  for split in sources.SPLITS:
    records.write_shard(tmp_path, ABOUT, split, 0, [records.Example(file.getvalue(), ('a',), (0,))])
  records.finish(tmp_path, ABOUT, {'train': 1, 'heldout': 1})
  image = load(tmp_path, size=16).image(0, (0.5, 0.25))
  assert image.shape == (16, 16, 3)
  # A ramp stays a ramp: pixel i of the reduced one lies between 2i and 2i + 1. Its ends are bent.
  y, x = (np.arange(16) * 2 + 0.5 + first for first in (4, 4))
  inner = image[2:-2, 2:-2].astype(float)
  assert np.abs(inner[..., 0] - 4 * y[2:-2, None]).max() <= 1
  assert np.abs(inner[..., 1] - 4 * x[None, 2:-2]).max() <= 1


@pytest.mark.parametrize('about', [
    records.DatasetInfo('none', 32), records.DatasetInfo('some', 32, ('cat', 'dog', 'owl'))])
def test_several_labels_and_none(tmp_path, about):
  bare = [dataclasses.replace(make_record(i, about), labels=()) for i in range(3)]
  some = bare if not about.class_names else [make_record(i, about) for i in range(3)]
  assert records.write_shard(tmp_path, about, 'train', 0, some) == 3
  records.finish(tmp_path, about, {'train': 1})
  labels = np.stack([load(tmp_path).label(i) for i in range(3)])
  expected = [[0, 0, 0], [1, 0, 0], [1, 0, 1]] if about.class_names else np.zeros((3, 0))
  assert labels.dtype == np.float32
  np.testing.assert_array_equal(labels, expected)


KILLED = """
import os, sys
sys.path.insert(0, {tests!r})
from noise_records import ABOUT, make_record
from xmc_jax.data import records
def some():
  for i in range(30):
    if i == 25:
      os._exit(9)
    yield make_record(i)
records.write_shard({folder!r}, ABOUT, 'train', 0, (make_record(i) for i in range(8)))
records.write_shard({folder!r}, ABOUT, 'train', 1, some())
"""


def test_a_killed_preparation_goes_on_and_gives_the_same_bytes(tmp_path):
  tests = str(pathlib.Path(__file__).parents[1])
  code = KILLED.format(folder=str(tmp_path / 'a'), tests=tests)
  assert subprocess.run([sys.executable, '-c', code]).returncode == 9
  with pytest.raises(UserError, match='a has no manifest.json: its preparation has not finished'):
    load(tmp_path / 'a')
  with pytest.raises(UserError, match='train-00001.rec: cannot be read'):
    records.finish(tmp_path / 'a', ABOUT, {'train': 2})
  unread = iter([make_record(40)])
  assert records.write_shard(tmp_path / 'a', ABOUT, 'train', 0, unread) == 8
  assert next(unread)                                  # what was complete is not made again
  make_folder(tmp_path / 'a', train=(8, 30), heldout=())
  make_folder(tmp_path / 'b', train=(8, 30), heldout=())
  for name in ('train-00000.rec', 'train-00001.rec', 'manifest.json'):
    assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes()
  assert len(load(tmp_path / 'a')) == 38


@pytest.mark.parametrize('hard, words', [(4096, None), (100, None),
                                         (30, '3 shards, .* 30 open files')])
def test_each_shard_may_stay_open(records_folder, monkeypatch, hard, words):
  limits = [(20, hard)]
  monkeypatch.setattr(resource, 'getrlimit', lambda kind: limits[-1])
  monkeypatch.setattr(resource, 'setrlimit', lambda kind, new: limits.append(new))
  if words:
    with pytest.raises(UserError, match=words):
      records._allow_open_files(3, records_folder)
  else:
    records._allow_open_files(3, records_folder)
    assert limits[-1] == (min(hard, 6 + records._OTHER_FILES), hard)


def test_threads_share_a_source(records_folder):
  source = load(records_folder)
  alone = [load(records_folder).image(i) for i in range(47)]
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    for i, image in enumerate(pool.map(source.image, list(range(47)) * 4)):
      np.testing.assert_array_equal(image, alone[i % 47])


def test_a_source_travels_to_another_process(records_folder):
  source = load(records_folder)
  image = source.image(3)                              # its file is open now
  spawn = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
    np.testing.assert_array_equal(pool.submit(source.image, 3).result(), image)
  assert len(pickle.dumps(source)) < 20_000


def flip_byte(path, at):
  data = bytearray(path.read_bytes())
  data[at] ^= 1
  path.write_bytes(data)


def test_a_flipped_bit_is_found_and_named(folder):
  flip_byte(folder / 'train-00000.rec', 100)           # of the first image
  words_end = int(shards.Shard(folder / 'train-00002.rec').index['end'][25])
  flip_byte(folder / 'train-00002.rec', words_end - 3)
  source = load(folder)
  with pytest.raises(UserError, match=r'train-00000.rec is damaged: .*checksum of example 0 is w'):
    source.image(0)
  assert source.captions(0) == make_record(0).captions
  assert source.image(46).shape == (32, 32, 3)
  with pytest.raises(UserError, match=r'train-00002.rec is damaged: .*checksum of example 25'):
    source.captions(46)


def test_a_image_that_cannot_be_decoded_is_named(tmp_path):
  whole = make_record(1).image
  examples = [shards.StoredExample(data, {'captions': ['a'], 'labels': [0]}, True)
              for data in (whole, b'no image', whole[:len(whole) // 2])]
  shards.write(tmp_path / 'train-00000.rec', lambda: dataclasses.asdict(ABOUT), examples)
  records.finish(tmp_path, ABOUT, {'train': 1})
  source = load(tmp_path)
  assert source.image(0).shape == (32, 32, 3)
  for i in (1, 2):
    with pytest.raises(UserError, match=rf'train-00000.rec .*example {i} cannot be decoded'):
      source.image(i)


def cut(folder):
  path = folder / 'train-00002.rec'
  path.write_bytes(path.read_bytes()[:-100])


def shorten(folder):
  """A whole shard, but not the one of the manifest."""
  (folder / 'train-00002.rec').unlink()
  records.write_shard(folder, ABOUT, 'train', 2, [make_record(1)])


def replace(folder):
  make_folder(folder.parent / 'other', records.DatasetInfo('photos', 32, ('cat',)), (2,), ())
  shutil.copy(folder.parent / 'other' / 'train-00000.rec', folder / 'train-00001.rec')


def edit(**values):
  def change(folder):
    path = folder / 'manifest.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
  return change


@pytest.mark.parametrize('damage, words', [
    (lambda f: (f / 'manifest.json').unlink(), 'copy has no manifest.json: its preparation has'),
    (lambda f: shutil.rmtree(f), r'copy has no manifest.json: prepare a data set there, or give '
     r'.*--config.data.options.folder=FOLDER'),
    (lambda f: (f / 'manifest.json').write_text('{'), 'manifest.json: cannot be read'),
    (lambda f: (f / 'manifest.json').write_text('[]'), 'does not describe a prepared data set'),
    (edit(format='webdataset'), 'does not describe a prepared data set'),
    (edit(version=2), r'prepared by another version of xmc_jax \(format 2, this one reads 1\)'),
    (edit(splits=[]), 'manifest.json is damaged'),
    (edit(splits={'heldout': []}), "no 'train' split, only heldout; prepare the data"),
    (lambda f: (f / 'train-00001.rec').unlink(), r'train-00001.rec: cannot be read \(No such file'),
    (lambda f: (f / 'train-00001.rec').write_bytes(b''), 'train-00001.rec is damaged: its end'),
    (cut, 'train-00002.rec is damaged: its end is missing; copy the data set again, or delete'),
    (shorten, 'train-00002.rec is damaged: it is not the file that the manifest describes'),
    (replace, "train-00001.rec belongs to another data set, 'photos' at 32 px; choose another")])
def test_folders_that_are_refused(folder, damage, words):
  load(folder)
  damage(folder)
  with pytest.raises(UserError, match=words):
    load(folder)


@pytest.mark.parametrize('options, words', [
    ({'folder': ''}, 'the folder is missing; give it with --config.data.options.folder='),
    ({'folder': 'gs://'}, 'folder=gs:// names no folder of a bucket; give one such as'),
    ({'crop': 'squash'}, 'options.crop=squash: choose one of random, center'),
    ({'size': 64}, 'model.size=64: the images in .* were prepared at 32 px; prepare them at 64'),
    ({'shuffle': 1}, "'records' does not take these options")])
def test_options_that_are_refused(records_folder, options, words):
  options = {'folder': str(records_folder), 'size': 32} | options
  with pytest.raises(UserError, match=words):
    sources.load('records', 'train', options.pop('size'), **options)


@pytest.mark.parametrize('change, words', [
    ({'captions': ()}, 'example 0 has no caption'), ({'captions': ('a', ' ')}, 'or an empty one'),
    ({'labels': (3,)}, r'labels \(3,\), of 3 classes'), ({'labels': ()}, 'of 3 classes'),
    ({'labels': (0, 1)}, 'of 3 classes')])
def test_records_that_are_not_written(tmp_path, change, words):
  record = dataclasses.replace(make_record(0), **change)
  with pytest.raises(ValueError, match=words):
    records.write_shard(tmp_path, ABOUT, 'train', 0, [record])
  assert not (tmp_path / 'train-00000.rec').exists()


@pytest.mark.parametrize('mode, size, words', [
    ('L', (32, 32), 'the image is L'), ('RGB', (31, 40), 'at least 32 px')])
def test_images_that_are_not_written(tmp_path, mode, size, words):
  file = io.BytesIO()
  Image.new(mode, size).save(file, 'PNG')
  record = records.Example(file.getvalue(), ('a',), (0,))
  with pytest.raises(ValueError, match=words):
    records.write_shard(tmp_path, ABOUT, 'train', 0, [record])
