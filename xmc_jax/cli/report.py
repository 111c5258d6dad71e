"""Write images, scores and curves of training runs as one HTML page.

  xmc report runs/demo
  xmc report runs/demo --caption "a red apple" --captions captions.txt
  xmc report runs/a runs/b --out comparison.html

The page begins with images that the newest checkpoints draw: of your captions and of held-out ones,
each beside the real image and the nearest training image.
"""
from xmc_jax.cli import parser as shared


def add_parser(commands):
  parser = commands.add_parser('report', help='write an HTML page about runs')
  flag = parser.add_argument
  flag('runs', nargs='+', metavar='RUN', help='folder of a run')
  flag('--out', metavar='FILE',
       help='default: report.html in the run, or comparison.html in the first one')
  flag('--caption', action='append', default=[],
       help='what an image of the page shows; may be repeated')
  flag('--captions', metavar='FILE', help='file with a caption per line')
  flag('--draw', type=shared.number(least=0), metavar='N',
       help='held-out captions of which the runs draw; default: 12; 0 draws none, so that a GPU '
       'which is training is left alone')
  flag('--text_encoder', metavar='FOLDER',
       help="folder of the runs' text encoder; default: where their configs say")
  flag('--data', metavar='FOLDER', help="where the runs' prepared data are on this machine; "
       'default: where their configs say')
  flag('--across_protocols', action='store_true',
       help='allow scores of different protocols, which are not comparable')
  return parser


def run(args):
  from xmc_jax.report import drawn
  from xmc_jax.report.report import report
  captions = shared.given_captions(args.caption, args.captions)
  print(report(args.runs, out=args.out, across_protocols=args.across_protocols, captions=captions,
               draw=drawn.COUNT if args.draw is None else args.draw, data=args.data,
               text_encoder=args.text_encoder))
