"""The data sets that `xmc prepare` knows, and how their readers are called."""
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
from xmc_jax.utils import user_code


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A reader, and how its images are stored unless the user says otherwise.

  Attributes:
    module: import path of the reader, a module with `open` (see `xmc_jax.prepare.original`).
    summary: one line.
    published: where the original files are published.
    size, margin, codec: see `xmc_jax.prepare.images.Storage`.
  """
  module: str
  summary: str
  published: str
  size: int = 256
  margin: float = 1.0
  codec: str = 'jpeg'


DATASETS = {
    'coco2014': Dataset('xmc_jax.prepare.coco',
                        'MS-COCO-14: 82,783 + 40,504 photographs, five captions',
                        'https://cocodataset.org/#download'),
    'ln_coco': Dataset('xmc_jax.prepare.ln_coco', "Localized Narratives of COCO's images",
                       'https://google.github.io/localized-narratives'),
    'ln_openimages': Dataset('xmc_jax.prepare.ln_openimages',
                             'Localized Narratives of Open Images',
                             'https://google.github.io/localized-narratives'),
    'cub': Dataset('xmc_jax.prepare.cub',
                   'CUB-200-2011: 8,855 + 2,933 birds, ten captions, cropped around the bird',
                   'https://www.vision.caltech.edu/datasets/cub_200_2011', margin=76 / 64),
    'folder': Dataset('xmc_jax.prepare.folder',
                      'images of your own, with captions in text files or in a table',
                      'your own disk')}


def find(name: str) -> Dataset:
  """Returns a data set by its name in `DATASETS`, or by the import path of its reader.

  A reader of your own may define `DATASET`, a `Dataset`, to say how its images are stored.

  Raises:
    UserError: the name is unknown, or there is no such reader.
  """
  if name in DATASETS:
    return DATASETS[name]
  known = (f'choose one of {", ".join(DATASETS)}, or give the import path of a module with '
           'open(source, **options)')
  if '.' not in name:
    raise UserError(f'xmc prepare: the data set {name!r} is unknown; {known}, such as '
                    'my_package.my_reader')
  module = user_code.import_module(name, 'xmc prepare',
                                   f'add its folder to PYTHONPATH, or {known}')
  if not hasattr(module, 'open'):
    raise UserError(f'xmc prepare: the module {name} has no function open(source, **options); '
                    f'{known}')
  unknown = Dataset(name, f'read by {name}', f'the address that {name} documents')
  return getattr(module, 'DATASET', unknown)


def open(name: str, source: str, options: Sequence[str] = ()) -> tuple[Original, dict[str, Any]]:
  """Opens a data set; returns it and its options.

  Args:
    name: as of `find`.
    source: folder of the original files.
    options: "KEY=VALUE", keyword arguments of the reader's `open`.

  Raises:
    UserError: an option is unknown or of the wrong type, the folder does not exist, or as the
      reader says.
  """
  dataset = find(name)
  reader = importlib.import_module(dataset.module).open
  values = _parse(name, reader, options)
  folder = pathlib.Path(source).expanduser()
  if not folder.exists():
    raise UserError(f'--source={source}: there is no such folder; the files of {name} are '
                    f'published at {dataset.published}')
  plain = {key: str(value) if isinstance(value, pathlib.Path) else value
           for key, value in values.items()}
  return reader(folder, **values), plain


def options_of(name: str) -> dict[str, inspect.Parameter]:
  """Returns {name: parameter} of the options that a data set takes."""
  return _options(importlib.import_module(find(name).module).open)


def _options(reader: Callable[..., Original]) -> dict[str, inspect.Parameter]:
  return dict(list(inspect.signature(reader, eval_str=True).parameters.items())[1:])


def _parse(name: str, reader: Callable[..., Original], options: Sequence[str]) -> dict[str, Any]:
  known, values = _options(reader), {}
  choices = ', '.join(f'{key} (default: {option.default})' for key, option in known.items())
  for option in options:
    key, equals, text = option.partition('=')
    if key not in known or not equals:
      raise UserError(f'--option={option}: the data set {name} '
                      + (f'takes KEY=VALUE of these: {choices}' if choices else
                         'takes no options'))
    try:
      values[key] = convert(text, known[key].annotation)
    except ValueError as error:
      raise UserError(f'--option={option}: {text!r} is not a valid {key}; the default is '
                      f'{known[key].default}') from error
  return values
