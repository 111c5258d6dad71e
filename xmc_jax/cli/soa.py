"""Measure semantic object accuracy on the public caption files of COCO.

  xmc soa --workdir RUN --captions FOLDER --out GENERATED              # for the public scorer
  xmc soa --workdir RUN --captions FOLDER --detector package.module:function
"""
from xmc_jax.cli.parser import add_processes, add_run, joined


def add_parser(commands):
  parser = commands.add_parser('soa', help='measure semantic object accuracy on COCO')
  add_run(parser)
  flag = parser.add_argument
  flag('--captions', required=True, metavar='FOLDER', help='folder of label_XX_name.pkl files')
  flag('--out', metavar='FOLDER', help='write the images for the public scorer to this folder')
  flag('--detector', metavar='MODULE:FUNCTION', help='score with the detector that this makes')
  add_processes(parser)
  return parser


def run(args):
  with joined(args, device_per_core=True):
    from xmc_jax.evaluate_soa import evaluate_soa
    evaluate_soa(args.workdir, args.captions, out=args.out, detector=args.detector,
                 seed=args.seed, step=args.step, live=args.live, text_encoder=args.text_encoder)
