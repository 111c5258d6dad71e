"""Reader of LN-OpenImages: Localized Narratives of Open Images V6, training and validation.

The source folder holds open_images_train_v6_captions.jsonl and
open_images_validation_captions.jsonl (see `localized_narratives`) and the images `<image_id>.jpg`,
from https://storage.googleapis.com/openimages/web or its mirrors, in train/ and validation/ (also
below images/), and in train_0/ to train_f/, as the archives train_0.tar.gz and so on unpack, next
to these or in them. The archives themselves are not read, since a tar has no random access. If only
some of the images were downloaded, use `missing = "leave_out"`. There are no labels.
"""
from __future__ import annotations

import pathlib

from xmc_jax.prepare.archives import ImageStore
from xmc_jax.prepare.localized_narratives import Choices, Half, Narratives, find_lists
from xmc_jax.prepare.original import Original
from xmc_jax.types import UserError

ADDRESS = 'https://storage.googleapis.com/openimages/web/download.html'
PUBLISHED = {'train': 507_444, 'validation': 41_691}


def open(source: pathlib.Path, each: str = 'image', shortest: int = 0,
         missing: str = 'bad') -> Original:
  """Opens the data set; the options are those of `localized_narratives.Choices`.

  Raises:
    UserError: a file is missing or damaged, or an option is wrong.
  """
  choices, source = Choices(each, shortest, missing), pathlib.Path(source)
  return Narratives('ln_openimages', {'train': _half(source, 'train', 'train_v6', shards=10),
                                      'heldout': _half(source, 'validation', 'validation')},
                    choices)


def _half(source: pathlib.Path, part: str, listed: str, shards: int = 0) -> Half:
  lists = find_lists(source, f'open_images_{listed}', shards)
  return Half(f'open_images_{part}', lists, PUBLISHED[part], ImageStore(places(source, part)),
              file_name)


def file_name(image_id: str) -> str:
  """Returns the file name of an image."""
  if '/' in image_id:
    raise ValueError(f'{image_id} is not the name of an image')
  return f'{image_id}.jpg'


def places(source: pathlib.Path, part: str) -> list[pathlib.Path]:
  """Returns the folders that hold the images of `part`, "train" or "validation".

  Raises:
    UserError: there are none.
  """
  homes = [home / part for home in (source, source / 'images') if (home / part).is_dir()]
  parts = [folder for home in (source, source / 'images', *homes)
           for folder in sorted(home.glob(f'{part}_?')) if folder.is_dir()]
  if not homes and not parts:
    archives = [path.name for path in sorted(source.rglob(f'{part}*.tar*'))]
    what = (f'unpack {archives[0]} there' if archives else
            f'download the images from {ADDRESS} and unpack them there')
    raise UserError(f'{source} has no folder {part} of images (nor {part}_0 and so on); {what}')
  return [*homes, *parts]
