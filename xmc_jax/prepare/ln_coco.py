"""Reader of LN-COCO: Localized Narratives of COCO's images, as split in 2017.

The source folder holds coco_train_captions.jsonl and coco_val_captions.jsonl (see
`localized_narratives`), the images train2017 and val2017, zipped or not, and, for labels,
annotations_trainval2017.zip or its instances_*2017.json, laid out as for MS-COCO-14 (`coco`).
Without the annotations there are no classes and no labels.
"""
from __future__ import annotations

import pathlib

from xmc_jax.prepare import coco
from xmc_jax.prepare.localized_narratives import Choices, Half, Narratives, find_lists
from xmc_jax.prepare.original import Original
from xmc_jax.types import UserError

PUBLISHED = {'train': 134_272, 'val': 8_573}


def open(source: pathlib.Path, each: str = 'image', shortest: int = 0,
         missing: str = 'bad') -> Original:
  """Opens the data set; the options are those of `localized_narratives.Choices`.

  Raises:
    UserError: a file is missing or damaged, or an option is wrong.
  """
  choices, source = Choices(each, shortest, missing), pathlib.Path(source)
  return Narratives('ln_coco', {'train': _half(source, 'train', shards=4),
                                'heldout': _half(source, 'val')}, choices)


def _half(source: pathlib.Path, part: str, shards: int = 0) -> Half:
  lists = find_lists(source, f'coco_{part}', shards)
  images = coco.find_images(source, f'{part}2017')
  return Half(f'coco_{part}', lists, PUBLISHED[part], images, file_name,
              _objects(source, f'{part}2017'))


def _objects(source: pathlib.Path, part: str) -> tuple[pathlib.Path, str] | None:
  try:
    return coco.find_list(source, 'instances', part)
  except UserError:
    return None


def file_name(image_id: str) -> str:
  """Returns the file name of an image: 137576 becomes 000000137576.jpg."""
  return f'{int(image_id):012d}.jpg'
