"""The `xmc` command: parses the command line and runs one of the modules of this folder.

Exit codes: 0; 2 after a user error, with one sentence on stderr; 75 if another process of a
distributed run is lost; 130 after Ctrl-C; 141 if nobody reads what it prints any more. The modules
import JAX only when they run, so that `xmc --help` answers at once.
"""
from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import sys
from collections.abc import Sequence

from absl import logging

from xmc_jax import __version__
from xmc_jax.cli import (
  compare,
  completion,
  configs,
  demo,
  describe,
  evaluate,
  export,
  importing,
  prepare,
  report,
  sample,
  soa,
  train,
  weights,
)
from xmc_jax.cli.parser import Parser

_COMMANDS = (train, sample, demo, export, evaluate, compare, soa, report, prepare, weights,
             importing, configs, describe, completion)

# Set before the first TensorFlow import, to silence its start-up log.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')


def _parser() -> Parser:
  parser = Parser(prog='xmc', description='Train, sample and evaluate text-to-image GANs.',
                  epilog='`xmc COMMAND --help` shows the flags of a command.')
  parser.add_argument('--version', action='version', version=f'xmc_jax {__version__}')
  commands = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)
  for command in _COMMANDS:
    added = command.add_parser(commands)
    added.description, added.siblings = command.__doc__, commands.choices
    added.set_defaults(run=command.run, parser=added, root=parser)
  return parser


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command and returns the exit code; `argv` is like sys.argv, the default."""
  logging.set_verbosity(logging.FATAL)      # orbax also raises the errors that it logs
  words = (sys.argv if argv is None else argv)[1:]
  if wrong := _unknown_home(words):
    print(f'xmc: {wrong}', file=sys.stderr)
    return 2
  try:
    args = _parser().parse_args(words)
  except SystemExit as leaving:      # after --help, --version or a message about the flags
    return leaving.code
  import jax

  from xmc_jax.types import UserError
  from xmc_jax.utils import disk, mirror
  jax.config.update('jax_compilation_cache_dir', str(mirror.cache_folder()))
  try:
    with disk.errors_told():
      args.run(args)
      sys.stdout.flush()      # here a full disk still has a sentence
  except SystemExit as leaving:      # flags that do not go together, or code of the user's
    if isinstance(leaving.code, int) and leaving.code:
      return leaving.code
    print(f'xmc: {leaving.code or "sys.exit() was called by a module that it ran"}',
          file=sys.stderr)
    return 2
  except UserError as error:
    print(f'xmc: {error}', file=sys.stderr)
    return error.code
  return 0


def _unknown_home(words: Sequence[str]) -> str | None:
  """What is wrong with a path below the home folder of somebody whom the system does not know."""
  for word in words:
    path = word.partition('=')[2] or word
    if re.match(r'~[\w.-]+/', path) and os.path.expanduser(path) == path:
      return (f'{word}: the home folder of {path.partition("/")[0]} is not known; write ./{path} '
              'if a folder here has that name')
  return None


def _leave(*_) -> None:
  """Ends the process at once, with what Ctrl-C says."""
  os.write(2, b'xmc: interrupted\n')
  os._exit(130)


def _nobody_reads() -> bool:
  """Whether the reader of stdout has gone."""
  poller = select.poll()
  poller.register(sys.stdout.fileno(), 0)      # which tells errors alone
  return any(event & (select.POLLERR | select.POLLHUP) for _, event in poller.poll(0))


def entry() -> None:
  """Runs `main` as a process of its own."""
  # Until training listens itself: libraries that are being loaded may lose a KeyboardInterrupt.
  signal.signal(signal.SIGINT, _leave)
  # After reading a damaged checkpoint, orbax abandons reads that would complain at the end.
  sys.unraisablehook = lambda problem: (
      'Event loop is closed' in str(problem.exc_value) or sys.__unraisablehook__(problem))
  try:
    code = main()
  except KeyboardInterrupt:
    print('xmc: interrupted', file=sys.stderr)
    code = 130
  except BrokenPipeError:
    if not _nobody_reads():
      raise      # of a connection
    os._exit(141)      # as of `xmc configs | head -1`
  if code:
    with contextlib.suppress(OSError):      # stdout may be a file on a full disk
      sys.stdout.flush()
      sys.stderr.flush()
    os._exit(code)
