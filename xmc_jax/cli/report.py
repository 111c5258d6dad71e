"""Write curves, scores and images of training runs as one HTML page.

  xmc report runs/demo
  xmc report runs/a runs/b --out comparison.html
"""


def add_parser(commands):
  parser = commands.add_parser('report', help='write an HTML page about runs')
  parser.add_argument('runs', nargs='+', metavar='RUN', help='folder of a run')
  parser.add_argument('--out', metavar='FILE',
                      help='default: report.html in the run, or comparison.html in the first one')
  parser.add_argument('--across_protocols', action='store_true',
                      help='allow scores of different protocols, which are not comparable')
  return parser


def run(args):
  from xmc_jax.report.report import report
  print(report(args.runs, out=args.out, across_protocols=args.across_protocols))
