"""Write the averaged generator of a run, with its text encoder, to a folder that needs no other.

  xmc export runs/demo models/demo
  xmc export runs/demo models/small --dtype float16 --text int8 --cut
  xmc export emoji64 --page site
  xmc export runs/demo --page site --dtype int8 --text int8 --cut

`xmc sample --model FOLDER` and `xmc_jax.load(FOLDER)` draw with it. With --page the folder is a
static page, which draws in the visitor's browser; it is made of a run or of a model.
"""
import pathlib
import shlex

from xmc_jax.cli.parser import add_data, given_captions, number

# Flags that say how a run is exported, so that they mean nothing for a model.
_OF_RUN = ('step', 'dtype', 'text', 'cut', 'full', 'license', 'text_encoder', 'data', 'matcher')


def add_parser(commands):
  parser = commands.add_parser('export', help='write a trained model to a folder to share, or as a '
                               'page for browsers')
  flag, bits = parser.add_argument, ('float32', 'float16', 'int8')
  flag('workdir', metavar='RUN', help='folder of the run; for --page also a model, by name or '
       'folder')
  flag('folder', metavar='FOLDER', nargs='?',
       help='of the model; one that is there already is replaced')
  flag('--step', type=number(), metavar='N',
       help='training step of the checkpoint; default: the newest')
  flag('--dtype', choices=bits, help="of the generator's weights in the file; default: float32, "
       'for a page float16')
  flag('--text', choices=bits, help="of the text encoder's; default: float32, for a page float16")
  flag('--cut', action='store_true', help='leave out word pieces that are rare in English and that '
       "no caption of the run's data has; for a BERT")
  flag('--full', action='store_true', help='add the weights of all networks, discriminators too')
  flag('--license', metavar='ID', help='of the model, for its card, such as apache-2.0; default: '
       'that of an embedded data set, or unknown')
  flag('--text_encoder', metavar='FOLDER',
       help="folder of the run's text encoder; default: where its config says")
  add_data(parser)
  flag('--matcher', metavar='FILE', help='weights of a matching network, which goes along and '
       'helps to choose with `xmc sample --best_of`')
  page = parser.add_argument_group('a page in the browser').add_argument
  page('--page', metavar='FOLDER', help='of the page; one that is there already is replaced')
  page('--captions', metavar='FILE', help='file with a caption per line, which the page offers to '
       'try; default: some of the data set')
  page('--runtime', metavar='FOLDER', help='the node_modules with the JavaScript of the page; '
       'default: fetched by npm once')
  page('--webgpu', action='store_true', help="draw on the visitor's graphics card where there is "
       'one; 7 MB more')
  return parser


def run(args):
  if not args.page:
    if not args.folder:
      args.parser.error('give the FOLDER of the model, or --page FOLDER')
    if given := [name for name in ('captions', 'runtime', 'webgpu') if getattr(args, name)]:
      args.parser.error(f'--{given[0]}: goes with --page FOLDER')
    facts = _export(args, args.folder, 'float32')
    print(f'{args.folder}: the {facts["weights"]} weights of step {facts["step"]:,}, '
          f'{_megabytes(args.folder)}\nTo generate an image:  xmc sample --model '
          f'{shlex.quote(args.folder)} "a red apple"')
    return
  if args.folder:
    args.parser.error('FOLDER and --page: give one of them; a page can be made of the model later')
  _page(args)


def _page(args) -> None:
  import tempfile

  from xmc_jax.page import build
  from xmc_jax.pretrained import model
  from xmc_jax.sampling import read_config
  from xmc_jax.training.checkpoint import Checkpoints
  build.check_target(args.page)
  captions = given_captions((), args.captions)
  write = lambda loaded, name: build.write(name, loaded, args.page, captions=captions,
                                           node_modules=args.runtime, webgpu=args.webgpu)
  if (pathlib.Path(args.workdir) / 'checkpoints').is_dir():
    if given := [name for name in ('full', 'matcher') if getattr(args, name)]:
      args.parser.error(f'--{given[0]}: a page draws, and needs the generator alone; leave it out')
    name = pathlib.Path(args.workdir).resolve().name
    with tempfile.TemporaryDirectory() as folder:
      _export(args, pathlib.Path(folder, name), 'float16', draws_only=True)
      loaded = model.load(pathlib.Path(folder, name))
      with Checkpoints(pathlib.Path(args.workdir, 'checkpoints'), every=None) as checkpoints:
        config = read_config(checkpoints)      # which knows where the data are
      if args.data:
        config.data.options.folder = args.data
      captions = captions or build.of_data(config, loaded.generator.tokenizer, own=True)
      facts = write(loaded, name)
  else:
    given = [name for name in _OF_RUN
             if getattr(args, name) is not None and getattr(args, name) is not False]
    if given:
      args.parser.error(f'--{given[0]}: goes with a RUN, and {args.workdir} is a model, of which '
                        'the page takes the weights as they are')
    facts = write(model.load(args.workdir), pathlib.Path(args.workdir).resolve().name)
  print(f'{args.page}: a page with the {facts["weights"]} weights of step {facts["step"]:,}, '
        f'{_megabytes(args.page)}\nTo look at it:  python3 -m http.server --directory '
        f'{shlex.quote(args.page)} 8000  and open http://127.0.0.1:8000')


def _export(args, folder, bits: str, **options):
  from xmc_jax.pretrained.export import export
  return export(args.workdir, folder, step=args.step, dtype=args.dtype or bits,
                text=args.text or bits, cut=args.cut, full=args.full, license=args.license,
                encoder=args.text_encoder, data=args.data, matcher=args.matcher, **options)


def _megabytes(folder) -> str:
  size = sum(path.stat().st_size for path in pathlib.Path(folder).rglob('*') if path.is_file())
  return f'{size / 1e6:.1f} MB'
