"""Score checkpoints of a run by an evaluation protocol; the scores go to RUN/scores.jsonl.

  xmc evaluate --workdir runs/demo
  xmc evaluate --workdir runs/demo --protocol tf2015 --metrics clip,duplicates --every

docs/evaluation.md explains the protocols and metrics.
"""
from xmc_jax.cli import parser as shared


def add_parser(commands):
  parser = commands.add_parser('evaluate', help='score checkpoints of a run: FID, KID and more')
  flag, steps = parser.add_argument, parser.add_mutually_exclusive_group()
  shared.add_run(parser, steps)
  steps.add_argument('--every', action='store_true', help='score every checkpoint')
  steps.add_argument('--follow', action='store_true',
                     help='score every checkpoint, and new ones until the run has ended')
  flag('--protocol', metavar='NAME', help="default: config.evals.protocol of the run's config")
  flag('--metrics', type=shared.names, default=[], metavar='NAME,...',
       help="metrics besides the protocol's: clip, cmmd, damsm, duplicates")
  flag('--weights', type=shared.names, default=['averaged'], metavar='averaged,live',
       help='averaged, live or both; default: averaged')
  flag('--fakes', type=shared.number(least=6), metavar='N',
       help='images to generate; default: as the config or the protocol says')
  shared.add_data(parser)
  shared.add_random_weights(parser)
  shared.add_processes(parser)
  return parser


def run(args):
  with shared.joined(args, device_per_core=True):
    from xmc_jax.evaluator import evaluate
    evaluate(args.workdir, protocol=args.protocol, fakes=args.fakes, seed=args.seed,
             step=args.step, every=args.every, follow=args.follow, weights=args.weights,
             metrics=args.metrics, random_seed=args.random_weights,
             text_encoder=args.text_encoder, data=args.data)
