"""Train a model, or resume the run in WORKDIR.

  xmc train --config configs/demo.py --workdir runs/demo
  xmc train --config configs/demo.py --workdir runs/small --config.model.width=16
"""
from xmc_jax.cli.parser import add_config, add_processes, joined


def add_parser(commands):
  parser = commands.add_parser('train', help='train a model or resume a run')
  add_config(parser)
  parser.add_argument('--workdir', required=True, metavar='WORKDIR',
                      help='folder of the run; a run that is there already is resumed')
  add_processes(parser)
  return parser


def run(args):
  from xmc_jax.cli import config_file
  config = config_file.load(args.config, args.overrides)
  with joined(args):
    from xmc_jax.train import train
    train(config, args.workdir)
