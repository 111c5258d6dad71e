"""Write the averaged generator of a run, with its text encoder, to a folder that needs no other.

  xmc export runs/demo models/demo
  xmc export runs/demo models/small --dtype float16 --text int8 --cut

`xmc sample --model FOLDER` and `xmc_jax.load(FOLDER)` draw with it.
"""
from xmc_jax.cli.parser import number


def add_parser(commands):
  parser = commands.add_parser('export', help='write a trained model to a folder to share')
  flag, bits = parser.add_argument, ('float32', 'float16', 'int8')
  flag('workdir', metavar='RUN', help='folder of the run')
  flag('folder', metavar='FOLDER', help='of the model; one that is there already is replaced')
  flag('--step', type=number(), metavar='N',
       help='training step of the checkpoint; default: the newest')
  flag('--dtype', choices=bits, default='float32', help="of the generator's weights in the file; "
       'default: float32')
  flag('--text', choices=bits, default='float32', help="of the text encoder's; default: float32")
  flag('--cut', action='store_true', help='leave out word pieces that are rare in English and that '
       "no caption of the run's data has; for a BERT")
  flag('--full', action='store_true', help='add the weights of all networks, discriminators too')
  flag('--license', metavar='ID', help='of the model, for its card, such as apache-2.0; default: '
       'that of an embedded data set, or unknown')
  flag('--text_encoder', metavar='FOLDER',
       help="folder of the run's text encoder; default: where its config says")
  return parser


def run(args):
  import pathlib

  from xmc_jax.pretrained.export import export
  facts = export(args.workdir, args.folder, step=args.step, dtype=args.dtype, text=args.text,
                 cut=args.cut, full=args.full, license=args.license, encoder=args.text_encoder)
  size = sum(path.stat().st_size for path in pathlib.Path(args.folder).rglob('*'))
  print(f'{args.folder}: the {facts["weights"]} weights of step {facts["step"]:,}, '
        f'{size / 1e6:.1f} MB\nTo generate an image:  xmc sample --model {args.folder} '
        '"a red apple"')
