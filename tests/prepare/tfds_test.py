"""MS-COCO-14 through tensorflow_datasets: its own code prepares miniature files, offline."""
import importlib.resources.abc
import json
import pickle
import sys

import coco_files
import numpy as np
import pytest
import tensorflow_datasets

from xmc_jax.prepare import coco
from xmc_jax.types import UserError

pytestmark = pytest.mark.slow

# Karpathy's and Li's division of val2014; tensorflow_datasets keeps the names.
HALVES = {'val': [5], 'test': [6], 'restval': [7, 8, 4]}


def clean_lists():
  """(lists, parts) of `coco_files.small_coco` without its mistakes, and more held-out images."""
  lists, parts = coco_files.small_coco()
  train = json.loads(lists['instances_train2014.json'])
  categories = coco_files.CATEGORIES + [{'id': 100 + i, 'name': f'kind {i}'} for i in range(77)]
  train['categories'] = categories                    # 80 are expected
  train['annotations'] = [one for one in train['annotations'] if one['category_id'] != 77]
  numbers = sorted(n for those in HALVES.values() for n in those)
  images = coco_files.images(numbers, 'val2014', (20, 10))
  said = [coco_files.caption(n, n, f'the thing {n}') for n in numbers]
  seen = [coco_files.thing(8, 7, 18, [0, 1, 20, 5], 80)]
  parts['val2014'] = {coco_files.name_of(n, 'val2014'): coco_files.jpeg(n, 20, 10) for n in numbers}
  return lists | {
      'instances_train2014.json': json.dumps(train),
      'captions_val2014.json': coco_files.captions_file(images, said),
      'instances_val2014.json': coco_files.instances_file(images, seen, categories)}, parts


def karpathy(lists):
  """dataset_coco.json of the same captions."""
  halves = {coco_files.name_of(n, 'val2014'): half for half, those in HALVES.items() for n in those}
  images = []
  for part in ('train2014', 'val2014'):
    facts = json.loads(lists[f'captions_{part}.json'])
    for image in facts['images']:
      said = sorted((one['id'], one['caption']) for one in facts['annotations']
                    if one['image_id'] == image['id'])
      if said:
        images.append({'filename': image['file_name'],
                       'split': halves.get(image['file_name'], 'train'),
                       'sentences': [{'sentid': n, 'raw': text} for n, text in said]})
  return json.dumps({'images': images})


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  """The files, and what tensorflow_datasets makes of them."""
  home = tmp_path_factory.mktemp('tfds')
  lists, parts = clean_lists()
  files = coco_files.unpacked(home / 'files', lists, parts)
  (files / 'dataset_coco.json').write_text(karpathy(lists))
  with pytest.MonkeyPatch.context() as patch:
    # It imports this name of the backport to prepare anything, and does not ask pip for it.
    patch.setitem(sys.modules, 'importlib_resources', importlib.resources)
    patch.setattr(tensorflow_datasets.download.DownloadManager, 'download_and_extract',
                  lambda self, urls: {key: str(files) for key in urls})
    tensorflow_datasets.builder('coco_captions/2014', data_dir=home / 'data').download_and_prepare()
  return files, home / 'data'


def by_name(original):
  return {split: {raw.name: raw for raw in original.examples(split, 0, original.counts[split])}
          for split in original.counts}


def test_it_is_what_the_files_say(folders):
  files, data = folders
  ours, theirs = coco.open(files), coco.open(data, through='tfds')
  assert theirs.name == ours.name and theirs.class_names == ours.class_names
  assert theirs.counts == ours.counts == {'train': 3, 'heldout': 5}
  expected, found = by_name(ours), by_name(theirs)
  for split in ours.counts:
    assert expected[split].keys() == found[split].keys()
    for name, raw in expected[split].items():
      other = found[split][name]
      assert other.image() == raw.image()
      assert (other.captions, other.labels, other.flippable) == (
          raw.captions, raw.labels, raw.flippable)
      assert other.more.keys() == raw.more.keys()
      np.testing.assert_allclose(other.more.pop('boxes'), raw.more.pop('boxes'), atol=0.02)
      assert other.more == raw.more
      # Areas are cut to whole pixels there: of 60.5 + 59.5 one pixel is missing.
      assert other.areas == pytest.approx(raw.areas, abs=1.01 / 1200)
  json.dumps([raw.more for those in found.values() for raw in those.values()])


def test_ranges_are_parts_of_one_order_in_every_process(folders):
  original = coco.open(folders[1], through='tfds')
  for split, total in original.counts.items():
    names = [raw.name for raw in original.examples(split, 0, total)]
    copy = pickle.loads(pickle.dumps(original))
    for start, stop in [(0, 2), (2, 4), (1, total)]:
      assert [raw.name for raw in copy.examples(split, start, stop)] == names[start:stop]
  order = [int(name[-6:-4]) for name in names]
  assert set(order[:3]) == {4, 7, 8} and order[3:] == [5, 6]      # restval, val, test


def test_a_folder_without_it(tmp_path):
  with pytest.raises(UserError, match='has no coco_captions/2014 .*tfds build coco_captions/2014'):
    coco.open(tmp_path, through='tfds')
