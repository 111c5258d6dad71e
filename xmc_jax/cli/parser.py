"""What the commands share: a parser with helpful errors, and groups of flags."""
from __future__ import annotations

import argparse
import contextlib
import difflib
import math
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from xmc_jax import __version__


class Parser(argparse.ArgumentParser):
  """Ends with one sentence and exit code 2 at a mistake; suggests what may have been meant.

  Words that a command with --config does not know become `args.overrides`, for `config_file.load`.
  """
  siblings: Mapping[str, Parser] = {}      # all commands by name, to say which one has a flag

  def __init__(self, **options: Any):
    super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
                     **options)

  def error(self, message: str) -> NoReturn:
    # Types begin their message with '=', to give `--each=0: must be at least 1`.
    message = message.removeprefix('argument ').replace(': =', '=', 1)
    hint = f'; see `{self.prog} --help`' if 'required' in message else ''
    self.exit(2, f'{self.prog}: {message}{hint}\n')

  def parse_known_args(self, args=None, namespace=None):
    self._check_flags(args)      # before argparse misses a required flag that was misspelled
    namespace, rest = super().parse_known_args(args, namespace)
    for action in self._actions:      # an empty path would be the current folder
      value = getattr(namespace, action.dest, None)
      if action.option_strings and str(value).startswith('~/'):      # shells leave it in --out=~/x
        setattr(namespace, action.dest, type(value)(os.path.expanduser(value)))
      if value == '' or isinstance(value, list) and '' in value:
        name = '/'.join(action.option_strings) or action.metavar
        self.error(f'{name}: is empty; give a value, or check the variable that it comes from')
    if '--config' in self._option_string_actions:
      namespace.overrides, rest = rest, []
    if rest:
      self.error(f'unexpected argument {rest[0]!r}')
    return namespace, rest

  def _check_flags(self, words: Sequence[str]) -> None:
    known = self._option_string_actions
    for word in words:
      flag = word.partition('=')[0]
      if self._subparsers and not flag.startswith('-') or flag == '--':
        return      # what follows is checked by the command's own parser
      override = '--config' in known and re.match(r'--(no)?config\.', flag)
      if flag.startswith('--') and ' ' not in flag and flag not in known and not override:
        owners = [f'`{parser.prog}`' for parser in self.siblings.values()
                  if flag in parser._option_string_actions]
        hint = f'it belongs to {", ".join(owners)}' if owners else did_you_mean(flag, known)
        self.error(f'{flag}: no such flag; {hint or f"see `{self.prog} --help`"}')

  def _check_value(self, action: argparse.Action, value: Any) -> None:
    if action.choices is None or value in action.choices:
      return
    hint = did_you_mean(value, action.choices) or f'choose one of {", ".join(action.choices)}'
    if action.option_strings:
      raise argparse.ArgumentError(action, f'={value}: {hint}')
    self.error(f'{value}: no such command; {hint}')


def did_you_mean(name: str, known: Iterable[str]) -> str:
  """The question with the most similar name of `known`; '' if none is similar."""
  close = difflib.get_close_matches(name, list(known), 1)
  return f'did you mean {close[0]}?' if close else ''


def number(kind: type = int, least: float = -math.inf, most: float = math.inf
           ) -> Callable[[str], Any]:
  """A type for `add_argument`: an int or a float from `least` to `most`."""
  def parse(text: str):
    try:
      value = kind(text)
    except ValueError:
      raise argparse.ArgumentTypeError(f'={text}: must be a number') from None
    if not least <= value <= most:
      bounds = f'at least {least}' if most == math.inf else f'from {least} to {most}'
      raise argparse.ArgumentTypeError(f'={text}: must be {bounds}')
    return value
  return parse


def names(text: str) -> list[str]:
  """A type for `add_argument`: names with commas between them."""
  return [name for name in text.split(',') if name]


def given_captions(captions: Sequence[str], file: str | None) -> list[str]:
  """Captions of the command line and of the file of --captions, cleaned as prepared ones are."""
  from xmc_jax.prepare.captions import clean
  from xmc_jax.types import UserError
  from xmc_jax.utils.text_lines import read_lines
  lines = read_lines(file, '--captions') if file else []
  if file and not lines:
    raise UserError(f'--captions={file}: has no captions; write one on each line')
  return [clean(text) for text in (*captions, *lines)]


def output_folder(path: pathlib.Path) -> pathlib.Path:
  """`path`, into which a command will write; UserError if it is a file, or would be inside one."""
  from xmc_jax.types import UserError
  there = next((part for part in (path, *path.parents) if part.exists()), path)
  if there.exists() and not there.is_dir():
    raise UserError(f'--out={path}: {"" if there == path else f"{there} "}is a file; give a '
                    'folder, which is created if it is missing')
  if not path.resolve().name:
    raise UserError(f'--out={path}: give a folder inside it')
  return path


def add_config(parser: Parser, required: bool = True,
               default: str = 'the config of the run in WORKDIR') -> None:
  """Adds --config, with which single keys can be given; `config_file.load` reads both."""
  parser.add_argument(
      '--config', required=required, metavar='FILE[:ARG]',
      help='Python file with get_config([ARG]), or the name of a config of the package, such as '
           'demo; --config.KEY=VALUE changes one of its keys'
           + ('' if required else f'; default: {default}'))


def add_data(parser: Parser) -> None:
  parser.add_argument('--data', metavar='FOLDER',
                      help="where the run's prepared data are on this machine; default: where its "
                           'config says')


def add_run(parser: Parser, step: Parser | None = None, *, model: bool = False) -> None:
  """Adds the flags of commands that generate images: a run, its weights and a seed.

  model: whether a model without checkpoints can take the place of the run.
  """
  flag = parser.add_argument
  source = parser.add_mutually_exclusive_group() if model else parser
  source.add_argument('--workdir', required=not model, metavar='RUN', help='folder of the run')
  if model:
    source.add_argument('--model', metavar='NAME', help='a model of the package, a folder that '
                        '`xmc export` has written, or ORG/NAME of the Hugging Face Hub; default '
                        'without --workdir: emoji64')
  (step or parser).add_argument('--step', type=number(), metavar='N',
                                help='training step of the checkpoint; default: the newest')
  if not step:
    flag('--live', action='store_true', help='use the live weights, not their moving average')
  flag('--seed', type=number(least=0, most=2**32 - 1), default=0, metavar='N',
       help='of the noise; the same seed gives the same images; default: 0')
  flag('--text_encoder', metavar='FOLDER',
       help="folder of the run's text encoder; default: where its config says")


def add_random_weights(parser: Parser) -> None:
  parser.add_argument('--random_weights', type=number(least=0), metavar='SEED',
                      help="try the command with random weights in the protocol's network; the "
                           'scores mean nothing')


def add_processes(parser: Parser) -> None:
  """Adds the flags with which a command runs as several processes; `joined` takes them."""
  flag = parser.add_argument_group('several processes, one per host').add_argument
  flag('--distributed', action='store_true',
       help='take the next three from Cloud TPU, SLURM, Kubernetes or Open MPI')
  flag('--coordinator', metavar='HOST:PORT', help='address of process 0')
  flag('--processes', type=number(), metavar='N', help='number of processes')
  flag('--process', type=number(), metavar='I', help='index of this process, from 0')
  flag('--heartbeat', type=number(least=1), default=60, metavar='SECONDS',
       help='without a heartbeat, after which a process counts as lost; default: 60')
  flag('--wait', type=number(least=1), default=300, metavar='SECONDS',
       help='how long to wait for all processes to join; default: 300')


@contextlib.contextmanager
def joined(args: argparse.Namespace, device_per_core: bool = False) -> Iterator[None]:
  """The context in which this process is one of several, if the flags say so."""
  import jax

  from xmc_jax.distributed import processes
  from xmc_jax.training.mesh import one_cpu_device_a_core
  from xmc_jax.utils import disk
  if device_per_core:
    one_cpu_device_a_core()
  with processes.joined(
      distributed=args.distributed, coordinator=args.coordinator, processes=args.processes,
      process=args.process, heartbeat=args.heartbeat, wait=args.wait,
      facts={'the version of xmc_jax': __version__, 'the version of jax': jax.__version__},
      command='xmc'), disk.errors_told():      # inside, so that the other processes hear it too
    yield
