"""The data sets that `xmc prepare` knows, and their readers."""
from __future__ import annotations

import dataclasses
import importlib
import inspect
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from xmc_jax.data.options import convert
from xmc_jax.prepare.original import Original
from xmc_jax.types import UserError


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A reader and how its images are stored unless the user says otherwise.

  module     of `xmc_jax.prepare`, with `open`
  about      one line
  published  where its files are
  """
  module: str
  about: str
  published: str
  size: int = 256
  margin: float = 1.0
  codec: str = 'jpeg'


DATASETS = {
    'coco2014': Dataset('coco', 'MS-COCO-14: 82,783 + 40,504 photographs, five captions',
                        'https://cocodataset.org/#download'),
    'ln_coco': Dataset('ln_coco', "Localized Narratives of COCO's images",
                       'https://google.github.io/localized-narratives'),
    'ln_openimages': Dataset('ln_openimages', 'Localized Narratives of Open Images',
                             'https://google.github.io/localized-narratives'),
    'cub': Dataset('cub', 'CUB-200-2011: 8,855 + 2,933 birds, ten captions, cut around the bird',
                   'https://www.vision.caltech.edu/datasets/cub_200_2011', margin=76 / 64),
    'emoji_styles': Dataset('emoji_styles', 'emoji in three styles: Noto, Twemoji and Fluent 3D',
                            'https://www.npmjs.com/package/emoji-datasource-google',
                            size=64, codec='png'),
    'tuxpaint': Dataset('tuxpaint', "Tux Paint's stamps with their descriptions",
                        'https://packages.debian.org/tuxpaint-stamps-default',
                        size=128, codec='png'),
    'folder': Dataset('folder', 'images of your own with captions beside them', 'your own disk')}


def find(name: str) -> Dataset:
  """The data set of a name. UserError if there is none."""
  if name not in DATASETS:
    raise UserError(f'xmc prepare: the data set {name!r} is unknown; choose one of '
                    f'{", ".join(DATASETS)}, or `folder` for images of your own')
  return DATASETS[name]


def open(name: str, source: str, options: Sequence[str] = ()) -> tuple[Original, dict[str, Any]]:
  """Opens a data set; returns it and its options.

  Args:
    name: one of `DATASETS`.
    source: the folder of the original files.
    options: "key=value", arguments of the reader's `open`.

  Raises:
    UserError: an option is unknown or of the wrong type, the folder does not exist, or as the
      reader says.
  """
  reader = importlib.import_module(f'xmc_jax.prepare.{find(name).module}').open
  values = _parse(name, reader, options)
  folder = pathlib.Path(source).expanduser()
  if not folder.exists():
    raise UserError(f'--source={source}: there is no such folder; the files of {name} are '
                    f'published at {find(name).published}')
  return reader(folder, **values), values


def options_of(name: str) -> dict[str, inspect.Parameter]:
  """The options that a data set takes."""
  return _options(importlib.import_module(f'xmc_jax.prepare.{find(name).module}').open)


def _options(reader: Callable[..., Original]) -> dict[str, inspect.Parameter]:
  return dict(list(inspect.signature(reader, eval_str=True).parameters.items())[1:])


def _parse(name: str, reader: Callable[..., Original], options: Sequence[str]) -> dict[str, Any]:
  known, values = _options(reader), {}
  told = ', '.join(f'{key} (default: {option.default})' for key, option in known.items())
  for option in options:
    key, equals, text = option.partition('=')
    if key not in known or not equals:
      raise UserError(f'--option={option}: the data set {name} '
                      + (f'takes KEY=VALUE of these: {told}' if told else 'takes no options'))
    try:
      values[key] = convert(text, known[key].annotation)
    except ValueError as error:
      raise UserError(f'--option={option}: {text!r} is no value of {key}; by default it is '
                      f'{known[key].default}') from error
  return values
