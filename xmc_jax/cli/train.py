"""Train a model, or resume the run in WORKDIR.

  xmc train --config configs/demo.py --workdir runs/demo
  xmc train --config configs/demo.py --workdir runs/small --config.model.width=16
  xmc train --workdir runs/demo                     # resumes it with its own config
  xmc train --config configs/demo.py --workdir runs/demo --check
"""
import argparse

from xmc_jax.cli.parser import add_config, add_data, add_processes, joined


def add_parser(commands):
  parser = commands.add_parser('train', help='train a model or resume a run')
  add_config(parser, required=False)
  parser.add_argument('--workdir', required=True, metavar='WORKDIR',
                      help='folder of the run; a run that is there already is resumed')
  parser.add_argument('--allow_changes', action='store_true',
                      help='resume although the method, the data or the tokenizer have changed')
  parser.add_argument('--check', action='store_true',
                      help='train nothing: look for all that is wrong with versions, devices, '
                           'data, weights, disk and memory, on every host; code 2 if anything is')
  parser.add_argument('--profile', type=_steps, metavar='FIRST:LAST',
                      help='record these steps for TensorBoard or XProf in WORKDIR/profile')
  parser.add_argument('--debug_nans', action='store_true',
                      help='stop at the operation that makes the first NaN; slow')
  add_data(parser)
  add_processes(parser)
  return parser


def _steps(text: str) -> tuple[int, int]:
  """The first and the last step of FIRST:LAST."""
  first, colon, last = text.partition(':')
  if not (colon and first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last)):
    raise argparse.ArgumentTypeError(f'={text}: must be FIRST:LAST, two steps, such as 100:110')
  return int(first), int(last)


def run(args):
  from xmc_jax.cli import config_file
  overrides = args.overrides
  overrides += [f'--config.data.options.folder={args.data}'] if args.data else []
  config = (config_file.load(args.config, overrides) if args.config else
            config_file.load_saved(args.workdir, overrides))
  with joined(args):
    if args.debug_nans:          # the functions of the step must be made with it
      import jax
      jax.config.update('jax_debug_nans', True)
    if args.check:
      from xmc_jax.preflight import check
      print(check(config, args.workdir, allow_changes=args.allow_changes))
      return
    from xmc_jax.trainer import train
    train(config, args.workdir, allow_changes=args.allow_changes, profile=args.profile)
