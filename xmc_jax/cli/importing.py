"""Make a run, or the folder of a DAMSM, from published PyTorch checkpoints.

  xmc import damsm --text text_encoder200.pth --image image_encoder200.pth \\
      --vocabulary captions.pickle --out damsm_cub
  xmc import attngan --weights bird_AttnGAN2.pth --config attngan_cub --encoder damsm_cub \\
      --workdir runs/bird
"""
import shlex

from xmc_jax.cli.parser import add_config, number

_FAMILIES = ('attngan', 'dm_gan', 'df_gan', 'ssa_gan', 'galip')


def add_parser(commands):
  parser = commands.add_parser('import', help='make runs from published PyTorch checkpoints')
  actions = parser.add_subparsers(title='networks', metavar='NETWORK', dest='network',
                                  required=True)
  for family in _FAMILIES:
    _add_family(actions.add_parser(family, help=f'a generator of {family}'))
  flag = actions.add_parser('damsm', help='the image-text encoder of AttnGAN, DM-GAN, DF-GAN, '
                            'SSA-GAN').add_argument
  flag('--text', required=True, metavar='FILE', help='such as text_encoder200.pth')
  flag('--image', required=True, metavar='FILE', help='such as image_encoder200.pth')
  flag('--vocabulary', required=True, metavar='FILE', help='captions.pickle of the same download')
  flag('--out', required=True, metavar='FOLDER', help='a new folder, for --encoder')
  return parser


def _add_family(parser) -> None:
  flag = parser.add_argument
  flag('--weights', required=True, metavar='FILE', help='such as netG_epoch_600.pth')
  flag('--discriminators', nargs='+', default=[], metavar='FILE',
       help='theirs, the smallest image first; without them training starts with new ones')
  flag('--encoder', metavar='FOLDER', help='of the text encoder; default: as in the config')
  flag('--workdir', required=True, metavar='RUN', help='a new folder')
  flag('--step', type=number(least=0, most=2**31 - 1), default=0, metavar='N',
       help='training steps that the weights have seen; default: 0')
  add_config(parser, required=False,
             default='the released settings with the sizes of the file')


def run(args):
  from xmc_jax import importing
  if args.network == 'damsm':
    network = importing.import_damsm(args.text, args.image, args.vocabulary, args.out)
    print(f'DAMSM of {network.vocabulary:,} words: {args.out}')
    return
  from xmc_jax.cli import config_file
  published = importing.read(args.network, args.weights, args.discriminators)
  encoder = [f'--config.text.encoder={args.encoder}'] if args.encoder else []
  overrides = [*args.overrides, *encoder]
  config = (config_file.load(args.config, overrides) if args.config else config_file.change(
      importing.default_config(published, args.encoder), overrides))
  importing.import_run(published, config, args.workdir, step=args.step)
  also = '' if published.discriminators else ' The discriminator has new weights.'
  print(f'{args.network} of {config.model.size} px: step {args.step:,} of {args.workdir}.{also}\n'
        f'To generate an image:  xmc sample --workdir {shlex.quote(args.workdir)} '
        '"a red apple"')
