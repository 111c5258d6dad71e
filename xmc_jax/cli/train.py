"""Train a model, or resume the run in WORKDIR.

  xmc train --config configs/demo.py --workdir runs/demo
  xmc train --config configs/demo.py --workdir runs/small --config.model.width=16
  xmc train --workdir runs/demo                     # resumes it with its own config
"""
from xmc_jax.cli.parser import add_config, add_processes, joined


def add_parser(commands):
  parser = commands.add_parser('train', help='train a model or resume a run')
  add_config(parser, required=False)
  parser.add_argument('--workdir', required=True, metavar='WORKDIR',
                      help='folder of the run; a run that is there already is resumed')
  parser.add_argument('--allow_changes', action='store_true',
                      help='resume although the method, the data or the tokenizer have changed')
  add_processes(parser)
  return parser


def run(args):
  from xmc_jax.cli import config_file
  config = (config_file.load(args.config, args.overrides) if args.config else
            config_file.load_saved(args.workdir, args.overrides))
  with joined(args):
    from xmc_jax.train import train
    train(config, args.workdir, allow_changes=args.allow_changes)
