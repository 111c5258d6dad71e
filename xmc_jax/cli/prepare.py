"""Convert the original files of a data set into a folder to train from.

  xmc prepare                                       # lists the data sets and their options
  xmc prepare coco2014 --source DOWNLOADS
  xmc prepare folder --source flowers --size 64     # your own images and captions
  xmc prepare --check data/coco2014-256             # checks the hashes of a prepared folder

The same command resumes an interrupted preparation. docs/data.md explains the data sets.
"""
from __future__ import annotations

import pathlib
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from xmc_jax.cli.parser import number, output_folder

if TYPE_CHECKING:
  from xmc_jax.prepare.job import Job

_SIZES = (256, 128, 64, 32)     # that models have
_MANY = 5000                    # images with which the large configs make sense
# Configs that were written for a set: {set: {pixels stored, at least: (config, flags), in turn}}.
_OWN = {
    'coco2014': {256: [('xmc_gan_coco256',)], 128: [('xmc_gan_coco128',)]},
    'ln_coco': {256: [('xmc_gan_ln_coco256',)]},
    'ln_openimages': {256: [('xmc_gan_ln_openimages256',)]},
    'cub': {299: [('damsm_cub',), ('attngan_cub',)],
            256: [('damsm_cub', '--config.model.size=256'), ('attngan_cub',)]}}


def add_parser(commands):
  parser = commands.add_parser('prepare', help='convert a data set into a folder to train from')
  flag = parser.add_argument
  flag('dataset', nargs='?', metavar='DATASET', help='its name; default: list the data sets')
  flag('--source', metavar='FOLDER', help='folder of the original files')
  flag('--out', metavar='FOLDER', help='default: DATASET-SIZE in data/, or in $XMC_JAX_DATA')
  flag('--size', type=number(least=8), metavar='PIXELS',
       help="side of the images for training; default: the data set's")
  flag('--option', action='append', default=[], metavar='KEY=VALUE',
       help='option of the data set; may be repeated')
  flag('--force', action='store_true', help='replace a folder that is there already')
  flag('--check', metavar='FOLDER', help='only check the hashes of this prepared folder')
  flag = parser.add_argument_group('storage').add_argument
  flag('--margin', type=number(float, 1, 4), metavar='X',
       help="shorter side of a stored image, in multiples of --size; default: the data set's")
  flag('--codec', choices=('jpeg', 'png', 'webp'), help="default: the data set's")
  flag('--quality', type=number(least=1, most=100), default=90, metavar='N',
       help='of JPEG and WebP, 1 to 100; default: 90')
  flag('--shard_examples', type=number(least=1), default=2048, metavar='N',
       help='images per file; default: 2048')
  flag('--most_bad', type=number(float, 0, 1), default=0.01, metavar='X',
       help='largest fraction of unusable images in a split; default: 0.01')
  flag = parser.add_argument_group('several processes and hosts').add_argument
  flag('--workers', type=number(least=1), metavar='N',
       help='processes on this host; default: one per core, if there is enough to do')
  flag('--hosts', type=number(least=1), default=1, metavar='N',
       help='hosts that prepare one shared folder together; default: 1')
  flag('--host', type=number(least=0), default=0, metavar='I', help='index of this host, from 0')
  return parser


def run(args):
  given = [f'--{name}' for name, value in vars(args).items()
           if name != 'check' and value != args.parser.get_default(name)]
  if args.check and given:
    args.parser.error(f'{given[0].replace("--dataset", "DATASET")}: not allowed with --check')
  if given and not args.dataset:
    args.parser.error(f'{given[0]}: give the name of a data set as well')
  (_check if args.check else _prepare if args.dataset else _list)(args)


def _list(args) -> None:
  from xmc_jax.prepare import readers
  for name, dataset in readers.DATASETS.items():
    options = ', '.join(readers.options_of(name))
    print(f'{name:<15}{dataset.summary}\n{"":<15}{dataset.published}; {dataset.size} px'
          f'{f"; --option {options}" if options else ""}')
  print('\n`xmc prepare DATASET --source FOLDER` prepares one; `xmc prepare --help` has the flags.')


def _check(args) -> None:
  from xmc_jax.prepare import finishing
  from xmc_jax.prepare.estimate import gigabytes
  found = finishing.check(pathlib.Path(args.check))
  print(f'{args.check} is complete: {found["files"]:,} files, {gigabytes(found["bytes"])}')


def _prepare(args) -> None:
  """Prepares a data set and prints how to train with it."""
  from xmc_jax.data import prepared
  from xmc_jax.prepare import readers
  from xmc_jax.prepare.images import Storage
  from xmc_jax.prepare.job import Job
  from xmc_jax.prepare.run import prepare
  from xmc_jax.types import UserError
  from xmc_jax.utils import mirror
  name, dataset = args.dataset, readers.find(args.dataset)
  if not args.source:
    raise UserError(f'xmc prepare {name}: --source is missing, the folder of the original files '
                    f'({dataset.published})')
  if args.host >= args.hosts:
    raise UserError(f'--host={args.host}: must be from 0 to {args.hosts - 1} with '
                    f'--hosts={args.hosts}')
  storage = Storage(args.size or dataset.size, args.margin or dataset.margin,
                    args.codec or dataset.codec, args.quality)
  if mirror.is_remote(args.out or prepared.root()):
    raise UserError(f'xmc prepare {name}: cannot write to {args.out or prepared.root()}; give a '
                    'folder of this host with --out, and copy it there afterwards')
  original, options = readers.open(name, args.source, args.option)
  own = prepared.folder_of(original.name, storage.size)
  out = output_folder(pathlib.Path(args.out or own))
  job = Job(original, out, storage, args.shard_examples, options)
  if prepare(job, workers=args.workers, host=args.host, hosts=args.hosts,
             most_bad=args.most_bad, force=args.force):
    how = ('Train with it:  ' + how_to_train(job, job.folder == own)
           if storage.size >= _SIZES[-1] else
           f'The methods of this package begin at {_SIZES[-1]} px; it is for methods of your own.')
    print(f'{job.folder} is ready. {how}')


def how_to_train(job: Job, found_by_name: bool) -> str:
  """The commands that train with a prepared folder: the set's own configs, or one that fits it."""
  from xmc_jax.data.source import PREPARED
  name = job.original.name
  folder = f'--config.data.options.folder={job.folder}'
  place = [] if found_by_name else [folder]
  fits = [size for size in _OWN.get(name, ()) if size <= job.storage.size]
  if fits:
    return '\n  and then:  '.join(_command(stem, stem, [*flags, *place])
                                  for stem, *flags in _OWN[name][max(fits)])
  size = next(s for s in _SIZES if s <= job.storage.size)
  large = size >= 128 and job.original.counts['train'] >= _MANY
  data = [f'--config.data.name={name}', *place] if name in PREPARED else [
      '--config.data.name=records', folder]
  if size == 64:      # what learns fastest of little data on a small machine
    return _command('swift_emoji64', name, data)
  return _command(f'xmc_gan_coco{size}' if large else 'emoji64', name,
                  [f'--config.model.size={size}', *data])


def _command(config: str, workdir: str, flags: Sequence[str]) -> str:
  return shlex.join(['xmc', 'train', '--config', f'configs/{config}.py', '--workdir',
                     f'runs/{workdir}', *flags])
