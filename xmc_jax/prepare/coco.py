"""Reader of MS-COCO-14: 82,783 training and 40,504 held-out images, five or more captions each.

The training split is train2014, the held-out one val2014, as in the text-to-image literature.
(AttnGAN's lists are believed to contain 40,470 of the latter; we have not seen them.) The source
folder holds what https://cocodataset.org/#download publishes, zipped or unpacked:

  train2014.zip, val2014.zip     or train2014/, val2014/; also below images/
  annotations_trainval2014.zip   or annotations/captions_train2014.json, instances_train2014.json
                                 and the same of val2014; also without annotations/

The zips are at http://images.cocodataset.org/zips/ and /annotations/.

Examples are images, ordered by image id, since the order inside the files is arbitrary. Labels are
the 80 categories, ordered by category id, of the annotated objects (`coco_objects`); an image
without objects has no label. An image without captions is left out.
"""
from __future__ import annotations

import functools
import pathlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from xmc_jax.prepare import archives, captions
from xmc_jax.prepare.coco_objects import (
  Objects,
  complete,
  read_json,
  read_objects,
  shaped_like_coco,
)
from xmc_jax.prepare.original import Original, OriginalExample
from xmc_jax.prepare.packed import Numbers, Texts
from xmc_jax.types import UserError

ADDRESS = 'https://cocodataset.org/#download'
ZIPS = 'http://images.cocodataset.org/'
PARTS = {'train': 'train2014', 'heldout': 'val2014'}
PUBLISHED = {'train2014': 82_783, 'val2014': 40_504}


def open(source: pathlib.Path, through: str = 'files') -> Original:
  """Opens the data set.

  Args:
    source: the folder of the files, or of tensorflow_datasets.
    through: "files" as COCO publishes them, or "tfds" if tensorflow_datasets has prepared them (see
      `xmc_jax.prepare.tfds`).

  Raises:
    UserError: a file is missing or damaged, or an option is wrong.
  """
  if through == 'files':
    return Coco(pathlib.Path(source))
  if through == 'tfds':
    from xmc_jax.prepare import tfds  # imports TensorFlow
    return tfds.open(pathlib.Path(source))
  raise UserError(f'through={through}: choose files or tfds')


class Coco:
  """Implements `xmc_jax.prepare.original.Original`."""
  name = 'coco2014'
  several_labels = True
  vocabulary = None

  def __init__(self, source: pathlib.Path):
    self._images = {split: find_images(source, part) for split, part in PARTS.items()}
    self.files, self._parts, missed = {}, {}, Counter()
    for split, part in PARTS.items():
      def left_out(why: str, count: int) -> None:
        missed[f'{part}, {why}'] += count
      lists = find_list(source, 'captions', part), find_list(source, 'instances', part)
      self._parts[split] = _CocoSplit(*lists, left_out)
      self.files |= {path.name: str(path) for path, _ in lists}
      unlisted = PUBLISHED[part] - self._parts[split].listed
      missed[f'{part}, images of the {PUBLISHED[part]:,} published that its list does not '
             'have'] += max(unlisted, 0)
    self.left_out = {why: count for why, count in missed.items() if count}
    self.counts = {split: len(part.ids) for split, part in self._parts.items()}
    self.class_names = self._parts['train'].objects.class_names
    if self._parts['heldout'].objects.class_names != self.class_names:
      raise UserError(f'{source}: the two instances_*.json name different categories; download '
                      f'annotations_trainval2014.zip from {ADDRESS} again')

  def examples(self, split: str, start: int, stop: int) -> Iterator[OriginalExample]:
    """See `Original`."""
    part = self._parts[split]
    for row in range(start, stop):
      name, texts = part.names[row][0], part.captions[row]
      marks = part.objects.marks(row)
      yield OriginalExample(
          name, functools.partial(self._images[split].read, name), texts, marks.labels, marks.areas,
          flippable=captions.may_flip(texts),
          more={'image_id': int(part.ids[row]), 'caption_ids': part.numbers[row], **marks.more})


class _CocoSplit:
  """One split: ids and names of its images, captions and objects, by row."""

  def __init__(self, caption_file: tuple[pathlib.Path, str],
               object_file: tuple[pathlib.Path, str], left_out):
    facts = read_json(*caption_file)
    with shaped_like_coco(*caption_file):
      names = {image['id']: image['file_name']
               for image in complete(facts['images'], ('id', 'file_name'), 'images', left_out)}
      by_image = _by_image(facts['annotations'], names, left_out)
      rows = sorted(by_image)
      self.ids = np.array(rows, np.int64)
      self.names = Texts([names[one]] for one in rows)
      self.captions = Texts([text for _, text in by_image[one]] for one in rows)
      self.numbers = Numbers([number for number, _ in by_image[one]] for one in rows)
    self.listed = len(names)
    left_out('images without a caption', len(names) - len(rows))
    del facts
    self.objects: Objects = read_objects(*object_file, rows, left_out)


def _by_image(annotations: list[Mapping[str, Any]], names: Mapping[int, str],
                left_out) -> dict[int, list[tuple[int, str]]]:
  """Returns {image id: [(caption id, caption), …]}, ordered by caption id."""
  found, missed = defaultdict(list), Counter()
  needed = ('id', 'image_id', 'caption')
  for one in complete(annotations, needed, 'caption annotations', left_out):
    text = captions.clean(one['caption']) if isinstance(one['caption'], str) else None
    if text is None:
      missed['captions that are not text'] += 1
    elif not text:
      missed['captions without a word'] += 1
    elif one['image_id'] not in names:
      missed['captions of images that the file does not list'] += 1
    else:
      found[one['image_id']].append((one['id'], text))
  for why, count in missed.items():
    left_out(why, count)
  return {image: sorted(those) for image, those in found.items()}


def find_images(source: pathlib.Path, part: str) -> archives.ImageStore:
  """Returns the images of `part`, such as "train2014", in a zip or a folder.

  Raises:
    UserError: they are missing, or the zip is damaged.
  """
  names = [f'{part}.zip', part, f'images/{part}.zip', f'images/{part}']
  found = archives.ImageStore([archives.find(source, names, f'{ADDRESS} ({ZIPS}zips/{part}.zip)')])
  found.check()
  return found


def find_list(source: pathlib.Path, kind: str, part: str) -> tuple[pathlib.Path, str]:
  """Returns the path of the annotations of `kind` and `part`, and their member name if it is a zip.

  Args:
    source: folder that the user gave.
    kind: "captions" or "instances".
    part: such as "train2014".

  Raises:
    UserError: they are missing.
  """
  name, year = f'annotations/{kind}_{part}.json', part[-4:]
  archive = f'annotations_trainval{year}.zip'
  return archives.find(source, [name, name.rpartition('/')[2], archive],
                       f'{ADDRESS} ({ZIPS}annotations/{archive})'), name
