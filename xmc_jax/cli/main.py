"""The `xmc` command: train, sample, evaluate, report, prepare, weights, describe.

  xmc train    --config configs/X.py --workdir RUN [--config.batch_size=64 ...]
  xmc sample   --workdir RUN --caption "a red apple" [--captions FILE] [--out PICTURES]
  xmc evaluate --workdir RUN [--protocol NAME] [--follow]
  xmc evaluate --images DIR --reference DIR
  xmc report   RUN [RUN ...]
  xmc prepare  DATASET --source DIR [--size 256] [--workers 16]
  xmc weights  list | get NAME | check
  xmc describe --config configs/X.py [--json]

A mistake of the user's ends with one sentence and exit code 2. Several processes, one a host, are
started with the same command and --distributed, or --coordinator, --processes and --process; each
ends with code 75 when another one has gone.
"""
from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Sequence

from absl import flags, logging

from xmc_jax.cli.commands import COMMANDS, Command
from xmc_jax.cli.config_file import one_line
from xmc_jax.config import check
from xmc_jax.types import UserError

# Before TensorFlow is imported by anything: it would tell of its own affairs on the terminal.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')

_CACHE = os.environ.get('XMC_JAX_CACHE', '~/.cache/xmc_jax')


def _parse(argv: Sequence[str]) -> tuple[Command, flags.FlagValues, list[str]]:
  usage = f'usage: xmc {{{",".join(COMMANDS)}}} --flags; `xmc COMMAND --help` lists them'
  if len(argv) < 2 or argv[1] not in COMMANDS:
    if '--help' in argv:
      print(f'{usage}\n\n{__doc__}')
      sys.exit(0)
    raise UserError(usage)
  name, command = argv[1], COMMANDS[argv[1]]
  values = flags.FlagValues()
  command.define(values, argv)
  flags.DEFINE_bool('help', False, 'Show this help.', flag_values=values)
  if '--help' in argv:
    print(' '.join(['xmc', name, *command.words]))
    print(values.main_module_help() or values.get_help())
    sys.exit(0)
  given = {word.lstrip('-').partition('=')[0] for word in argv if word.startswith('-')}
  try:
    for flag in command.needs:
      if flag not in given and command.instead not in given:
        raise flags.Error(f'--{flag} is missing. {values[flag].help}')
    words = values(['xmc', *argv[2:]])[1:]
    if 'config' in values:
      check(values.config)
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
    raise UserError(f'xmc {name}: {one_line(error)}') from error
  if words and not command.words:
    raise UserError(f'xmc {name}: {words[0]!r} is not a flag; flags begin with --')
  return command, values, words


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command; returns the exit code: 0, or 2 after a mistake of the user's."""
  logging.set_verbosity(logging.ERROR)
  try:
    command, values, words = _parse(sys.argv if argv is None else argv)
    import jax
    jax.config.update('jax_compilation_cache_dir', str(pathlib.Path(_CACHE).expanduser()))
    command.run(values, *words)
  except UserError as error:
    print(f'xmc: {error}', file=sys.stderr)
    return error.code
  return 0


def entry() -> None:
  # Where a checkpoint is damaged, orbax abandons reads that would complain after the sentence.
  sys.unraisablehook = lambda problem: (
      'Event loop is closed' in str(problem.exc_value) or sys.__unraisablehook__(problem))
  code = main()
  if code:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == '__main__':
  entry()
