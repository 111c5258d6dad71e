"""Score a folder of images against real images by an evaluation protocol.

  xmc compare --images GENERATED --reference REAL
  xmc compare --images GENERATED --reference data/flowers-64 --split train
  xmc compare --images GENERATED --reference stats.npz --protocol pytorch-fid

The images of a folder must be RGB and of one size. Statistics, a .npz file with mu and sigma, give
the FID alone.
"""
from xmc_jax.cli.parser import add_processes, add_random_weights, joined


def add_parser(commands):
  parser = commands.add_parser('compare', help='score one folder of images against another')
  flag = parser.add_argument
  flag('--images', required=True, metavar='FOLDER', help='images to score')
  flag('--reference', required=True, metavar='FOLDER',
       help='real images, a folder of xmc prepare, or a .npz file of statistics')
  flag('--split', choices=('heldout', 'train'),
       help='of a folder of xmc prepare; default: heldout')
  flag('--protocol', default='tf2015', metavar='NAME', help='default: tf2015')
  flag('--workdir', metavar='FOLDER', help='append the scores to scores.jsonl in this folder')
  add_random_weights(parser)
  add_processes(parser)
  return parser


def run(args):
  with joined(args, device_per_core=True):
    from xmc_jax.evaluator import compare
    compare(args.images, args.reference, protocol=args.protocol, split=args.split,
            workdir=args.workdir, random_seed=args.random_weights)
