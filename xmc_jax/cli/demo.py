"""Draw with a trained model on a page in the browser; the model runs in this process.

  xmc demo                     # the model of the package
  xmc demo runs/flowers
  xmc demo models/flowers --port 8080

A page that needs no process, for others: xmc export --page.
"""
from xmc_jax.cli.parser import given_captions, number


def add_parser(commands):
  parser = commands.add_parser('demo', help='draw with a trained model on a page in the browser')
  flag = parser.add_argument
  flag('model', nargs='?', metavar='MODEL', help='a run, a model of the package, a folder that '
       '`xmc export` has written, or ORG/NAME of the Hugging Face Hub; default: emoji64')
  flag('--host', default='127.0.0.1', metavar='ADDRESS',
       help='at which the page is served; 0.0.0.0 lets other machines reach it; default: 127.0.0.1')
  flag('--port', type=number(least=1, most=65535), metavar='N',
       help='default: the first free one from 7860')
  flag('--captions', metavar='FILE', help='file with a caption per line, which the page offers to '
       'try; default: some of the data set')
  return parser


def run(args):
  from xmc_jax.page import demo
  from xmc_jax.pretrained import model
  captions = given_captions((), args.captions)
  demo.serve(model.load(args.model or model.DEFAULT), captions, host=args.host, port=args.port)
