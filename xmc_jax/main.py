"""The `xmc` command: train, sample, evaluate, describe.

  xmc train    --config configs/X.py --workdir RUN [--config.batch_size=64 ...]
  xmc sample   --workdir RUN --caption "a red apple" [--captions FILE] [--out PICTURES]
  xmc evaluate --workdir RUN
  xmc describe --config configs/X.py [--json]

A mistake of the user's ends with one sentence and exit code 2. Several processes, one a host, are
started with the same command and --distributed, or --coordinator, --processes and --process; each
ends with code 75 when another one has gone.
"""
from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from xmc_jax import __version__
from xmc_jax.config import check
from xmc_jax.types import UserError

# Before TensorFlow is imported by anything: it would tell of its own affairs on the terminal.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')

_CACHE = os.environ.get('XMC_JAX_CACHE', '~/.cache/xmc_jax')
_GIVE = 'give a Python file with get_config(), such as configs/demo.py'
_OVERRIDE = re.compile(r'--?(?:no)?config\.([^=]+)')


def _train(values: flags.FlagValues) -> None:
  with _processes(values):
    from xmc_jax.train import train
    train(values.config, values.workdir)


def _train_flags(values: flags.FlagValues, argv: Sequence[str]) -> None:
  _config_flag(values, argv)
  flags.DEFINE_string('workdir', None, 'Folder of the run; what is there is resumed.',
                      flag_values=values)
  _process_flags(values)


def _sample(values: flags.FlagValues) -> None:
  captions = list(values.caption)
  if values.captions:
    captions += _read_lines(values.captions)
  with _processes(values):
    from xmc_jax.sample import sample
    sample(values.workdir, captions, out=values.out, each=values.each, seed=values.seed,
           truncation=values.truncation, live=values.live, step=values.step)


def _sample_flags(values: flags.FlagValues, argv: Sequence[str]) -> None:
  _run_flags(values)
  text, number = flags.DEFINE_string, flags.DEFINE_integer
  flags.DEFINE_multi_string('caption', [], 'What to draw; may be given several times.',
                            flag_values=values)
  text('captions', None, 'File with one caption a line.', flag_values=values)
  text('out', None, 'Folder for the pictures; default: WORKDIR/samples.', flag_values=values)
  number('each', 4, 'Pictures of every caption.', lower_bound=1, flag_values=values)
  flags.DEFINE_float('truncation', None, 'Noise beyond this is drawn again; default: none.',
                     flag_values=values)


def _evaluate(values: flags.FlagValues) -> None:
  with _processes(values):
    from xmc_jax.evaluate import evaluate
    evaluate(values.workdir, rows=values.rows, seed=values.seed, live=values.live,
             step=values.step)


def _evaluate_flags(values: flags.FlagValues, argv: Sequence[str]) -> None:
  _run_flags(values)
  flags.DEFINE_integer('rows', 1000, 'Held-out captions to draw.', lower_bound=16,
                       flag_values=values)


def _run_flags(values: flags.FlagValues) -> None:
  """Flags of commands that take a trained run."""
  flags.DEFINE_string('workdir', None, 'Folder of a trained run.', flag_values=values)
  flags.DEFINE_integer('seed', 0, 'Of the noise: same seed, same pictures.', lower_bound=0,
                       upper_bound=2**32 - 1, flag_values=values)
  flags.DEFINE_integer('step', None, 'Checkpoint to use; default: the newest.', flag_values=values)
  flags.DEFINE_bool('live', False, 'Use the live weights, not their moving average.',
                    flag_values=values)
  _process_flags(values)


def _process_flags(values: flags.FlagValues) -> None:
  """Flags of commands that may run as several processes."""
  text, number = flags.DEFINE_string, flags.DEFINE_integer
  flags.DEFINE_bool('distributed', False, 'One of several processes, as Cloud TPU, SLURM, '
                    'Kubernetes or Open MPI started them.', flag_values=values)
  text('coordinator', None, 'HOST:PORT of process 0, where nothing of that kind started them.',
       flag_values=values)
  number('processes', None, 'How many there are, with --coordinator.', flag_values=values)
  number('process', None, 'Which of them this is, from 0, with --coordinator.',
         flag_values=values)
  number('heartbeat', 60, 'Seconds of silence after which another process counts as dead.',
         lower_bound=1, flag_values=values)
  number('wait', 300, 'Seconds to wait for all processes to come.', lower_bound=1,
         flag_values=values)


def _processes(values: flags.FlagValues) -> contextlib.AbstractContextManager:
  import jax

  from xmc_jax.engine import processes
  return processes.joined(
      distributed=values.distributed, coordinator=values.coordinator, processes=values.processes,
      process=values.process, heartbeat=values.heartbeat, wait=values.wait,
      facts={'the version of xmc_jax': __version__, 'the version of jax': jax.__version__},
      command='xmc')


def _describe(values: flags.FlagValues) -> None:
  from xmc_jax import describe
  found = describe.describe(values.config, compile_step=values.compile)
  print(json.dumps(found) if values.json else describe.table(found))


def _describe_flags(values: flags.FlagValues, argv: Sequence[str]) -> None:
  _config_flag(values, argv)
  flags.DEFINE_bool('json', False, 'Print JSON with every shape.', flag_values=values)
  flags.DEFINE_bool('compile', True, 'Compile the step to tell its FLOPs and memory.',
                    flag_values=values)


def _config_flag(values: flags.FlagValues, argv: Sequence[str]) -> None:
  config_flags.DEFINE_config_file('config', None, 'Python file with get_config().',
                                  flag_values=values, sys_argv=list(argv))
  values['config'].parser = _ConfigFile(argv)


class _ConfigFile(flags.ArgumentParser):
  """From the path of a config file to what its get_config() returns, locked."""

  def __init__(self, argv: Sequence[str]):
    self._overrides = [found[1] for found in map(_OVERRIDE.match, argv) if found]

  def parse(self, path: str) -> ConfigDict:
    config = self._load(path)
    for name in self._overrides:
      node = config
      for key in name.split('.'):
        if not isinstance(node, ConfigDict) or key not in node:
          known = f'; there are {", ".join(node)}' if isinstance(node, ConfigDict) else ''
          raise UserError(f'--config.{name}: the config has no key {key!r} there{known}')
        node = node[key]
    return config.lock()

  def _load(self, path: str) -> ConfigDict:
    try:
      names = runpy.run_path(path)
      config = names['get_config']() if 'get_config' in names else None
    except OSError as error:
      raise UserError(f'--config: {path} cannot be read ({error.strerror}); {_GIVE}') from error
    except Exception as error:     # a file of the user's may raise anything
      lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
               if frame.filename == path] or [getattr(error, 'lineno', '?')]
      raise UserError(f'--config: {path}, line {lines[-1]}: {type(error).__name__}: '
                      f'{_one_line(error)}') from error
    if not isinstance(config, ConfigDict):
      raise UserError(f'--config: {path} has no get_config() that returns a config; {_GIVE}')
    return config


COMMANDS: dict[str, tuple[Callable, Callable]] = {
    'train': (_train, _train_flags), 'sample': (_sample, _sample_flags),
    'evaluate': (_evaluate, _evaluate_flags), 'describe': (_describe, _describe_flags)}


def _read_lines(path: str) -> list[str]:
  try:
    lines = pathlib.Path(path).read_text(encoding='utf-8').splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f'--captions: {path} cannot be read as UTF-8 text ({error})') from error
  return [line.strip() for line in lines if line.strip()]


def _parse(argv: Sequence[str]) -> tuple[Callable, flags.FlagValues]:
  usage = f'usage: xmc {{{",".join(COMMANDS)}}} --flags; `xmc COMMAND --help` lists them'
  if len(argv) < 2 or argv[1] not in COMMANDS:
    if '--help' in argv:
      print(f'{usage}\n\n{__doc__}')
      sys.exit(0)
    raise UserError(usage)
  run, define = COMMANDS[argv[1]]
  values = flags.FlagValues()
  define(values, argv)
  flags.DEFINE_bool('help', False, 'Show this help.', flag_values=values)
  if '--help' in argv:
    print(f'xmc {argv[1]}\n{values.main_module_help() or values.get_help()}')
    sys.exit(0)
  try:
    for name in ('config', 'workdir'):
      if name in values and not any(x.lstrip('-').partition('=')[0] == name for x in argv):
        raise flags.Error(f'--{name} is missing. {values[name].help}')
    rest = values(['xmc', *argv[2:]])
    if 'config' in values:
      check(values.config)
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
    raise UserError(f'xmc {argv[1]}: {_one_line(error)}') from error
  if len(rest) > 1:
    raise UserError(f'xmc {argv[1]}: {rest[1]!r} is not a flag; flags begin with --')
  return run, values


def _one_line(error: Exception) -> str:
  text = str(error.args[0] if error.args else error)
  if 'Other fields present' in text:         # a locked ConfigDict tells all of itself, quoted
    text = text.partition(' Other fields present')[0].lstrip("'")
  return ' '.join(text.split())


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command; returns the exit code: 0, or 2 after a mistake of the user's."""
  logging.set_verbosity(logging.ERROR)
  try:
    run, values = _parse(sys.argv if argv is None else argv)
    import jax
    jax.config.update('jax_compilation_cache_dir', str(pathlib.Path(_CACHE).expanduser()))
    run(values)
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
