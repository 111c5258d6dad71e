"""What `xmc prepare` does: a data set's original files become a folder to train from."""
from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

from xmc_jax.data import prepared
from xmc_jax.data.source import PREPARED
from xmc_jax.prepare import finishing, readers, run
from xmc_jax.prepare.estimate import gigabytes
from xmc_jax.prepare.images import CODECS, Storage
from xmc_jax.prepare.job import Job
from xmc_jax.types import UserError

_SIZES = (256, 128, 64, 32)     # that models have
_MANY = 5000                    # images with which the large configs make sense
# Configs that were written for a set: {set: {pixels stored, at least: (config, flags), in turn}}.
_OWN = {
    'coco2014': {256: [('xmc_gan_coco256',)], 128: [('xmc_gan_coco128',)]},
    'ln_coco': {256: [('xmc_gan_ln_coco256',)]},
    'ln_openimages': {256: [('xmc_gan_ln_openimages256',)]},
    'cub': {299: [('damsm_cub',), ('attngan_cub',)],
            256: [('damsm_cub', '--config.model.size=256'), ('attngan_cub',)]}}


@dataclasses.dataclass(frozen=True)
class Wishes:
  """The flags of `xmc prepare`; None where the data set decides."""
  source: str | None = None
  out: str | None = None
  option: Sequence[str] = ()
  size: int | None = None
  margin: float | None = None
  codec: str | None = None
  quality: int = 90
  shard_examples: int = 2048
  workers: int | None = None
  hosts: int = 1
  host: int = 0
  most_bad: float = 0.01
  force: bool = False


def list_() -> None:
  """Prints the data sets that can be prepared."""
  for name, dataset in readers.DATASETS.items():
    options = ', '.join(readers.options_of(name))
    print(f'{name:<15}{dataset.summary}\n{"":<15}{dataset.published}; {dataset.size} px'
          f'{f"; --option {options}" if options else ""}')
  print('\nxmc prepare DATASET --source DIR prepares one; `xmc prepare --help` has the flags.')


def prepare(name: str, wishes: Wishes) -> None:
  """Prepares a data set and prints how to train with it.

  Raises:
    UserError: a wish cannot be; or as `run.prepare` says.
  """
  dataset = readers.find(name)
  if not wishes.source:
    raise UserError(f'xmc prepare {name}: --source is missing, the folder of the original files '
                    f'({dataset.published})')
  if not 0 <= wishes.host < wishes.hosts:
    raise UserError(f'--host={wishes.host}: of {wishes.hosts} hosts it is 0 to {wishes.hosts - 1}')
  storage = Storage(wishes.size or dataset.size, wishes.margin or dataset.margin,
                    wishes.codec or dataset.codec, wishes.quality)
  _check(storage)
  original, options = readers.open(name, wishes.source, wishes.option)
  own = prepared.folder_of(original.name, storage.size)
  folder = pathlib.Path(wishes.out) if wishes.out else own
  job = Job(original, folder, storage, wishes.shard_examples, options)
  if run.prepare(job, workers=wishes.workers, host=wishes.host, hosts=wishes.hosts,
                 most_bad=wishes.most_bad, force=wishes.force):
    print(f'{folder} is ready. Train with it:  {how_to_train(job, folder == own)}')


def _check(storage: Storage) -> None:
  if storage.codec not in CODECS:
    raise UserError(f'--codec={storage.codec}: choose one of {", ".join(CODECS)}')
  if not 1 <= storage.margin <= 4:
    raise UserError(f'--margin={storage.margin}: it must be from 1 to 4; 1 keeps the shorter side '
                    'at --size')


def how_to_train(job: Job, found_by_name: bool) -> str:
  """The commands that train with a prepared folder: the set's own configs, or one that fits it."""
  name = job.original.name
  place = [] if found_by_name else [f'--config.data.options.folder={job.folder}']
  fits = [size for size in _OWN.get(name, ()) if size <= job.storage.size]
  if fits:
    return '\n  and then:  '.join(_command(stem, stem, [*flags, *place])
                                  for stem, *flags in _OWN[name][max(fits)])
  size = next((s for s in _SIZES if s <= job.storage.size), _SIZES[-1])
  large = size >= 128 and job.original.counts['train'] >= _MANY
  data = [f'--config.data.name={name}', *place] if name in PREPARED else [
      '--config.data.name=records', f'--config.data.options.folder={job.folder}']
  return _command(f'xmc_gan_coco{size}' if large else 'emoji64', name,
                  [f'--config.model.size={size}', *data])


def _command(config: str, workdir: str, flags: Sequence[str]) -> str:
  return ' '.join([f'xmc train --config configs/{config}.py --workdir runs/{workdir}', *flags])


def check(folder: str) -> None:
  """Hashes a prepared folder and prints that it is whole. UserError if it is not."""
  found = finishing.check(pathlib.Path(folder))
  print(f'{folder} is whole: {found["files"]:,} files, {gigabytes(found["bytes"])}')
