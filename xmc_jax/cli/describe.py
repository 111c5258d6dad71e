"""Print the number of parameters, the shapes and the cost of a step, without training.

  xmc describe --config configs/xmc_gan_coco256.py
"""
import json

from xmc_jax.cli.parser import add_config


def add_parser(commands):
  parser = commands.add_parser('describe', help='print the size and the cost of a config')
  add_config(parser)
  parser.add_argument('--json', action='store_true', help='print JSON, with all shapes')
  parser.add_argument('--no_compile', action='store_true',
                      help='leave out FLOPs and memory, which take minutes for large models')
  return parser


def run(args):
  from xmc_jax import describe
  from xmc_jax.cli import config_file
  config = config_file.load(args.config, args.overrides)
  facts = describe.describe(config, compile_step=not args.no_compile)
  print(json.dumps(facts) if args.json else describe.table(facts))
