"""Generate images from captions: a grid with the captions, and single PNG files.

  xmc sample --workdir runs/demo "a red apple" "the flag of France"
  xmc sample --workdir runs/demo --captions captions.txt --each 1 --out images
"""
from __future__ import annotations

import pathlib
import re

from xmc_jax.cli.parser import add_processes, add_run, joined, number


def add_parser(commands):
  parser = commands.add_parser('sample', help='generate images from captions')
  flag = parser.add_argument
  flag('words', nargs='*', metavar='CAPTION', help='what the images show')
  flag('--caption', action='append', default=[], help='one more caption; may be repeated')
  flag('--captions', metavar='FILE', help='file with a caption per line')
  flag('--each', type=number(least=1), default=4, metavar='N', help='per caption; default: 4')
  flag('--out', metavar='FOLDER', help='default: RUN/samples')
  flag('--truncation', type=float, metavar='X',
       help='resample noise beyond X standard deviations: less variety; default: no limit')
  add_run(parser)
  add_processes(parser)
  return parser


def run(args):
  from xmc_jax.utils.text_lines import read_lines
  captions = args.words + args.caption
  captions += read_lines(args.captions, '--captions') if args.captions else []
  if not captions:
    args.parser.error('nothing to sample: give captions, --caption "..." or --captions FILE')
  with joined(args):
    _sample(args, captions)


def _sample(args, captions: list[str]) -> None:
  import jax

  from xmc_jax.sampling import TextToImage
  from xmc_jax.types import UserError
  out = pathlib.Path(args.out or pathlib.Path(args.workdir) / 'samples')
  model = TextToImage.load(args.workdir, step=args.step, live=args.live,
                           text_encoder=args.text_encoder)
  model.tokenizer.check_captions(captions, model.config.text.script)
  repeated = [caption for caption in captions for _ in range(args.each)]
  images = model.generate(repeated, seed=args.seed, truncation=args.truncation)
  if jax.process_index() == 0:
    try:
      _write(out, images, repeated, args.each)
    except OSError as error:
      raise UserError(f'--out: cannot write to {out} ({error.strerror or error})') from error
  print(f'{len(images)} images of {len(captions)} captions with the {model.weights} weights of '
        f'step {model.step:,}: {out / "grid.png"} and single files beside it')


def _write(out: pathlib.Path, images, captions: list[str], each: int) -> None:
  from xmc_jax.utils import image_io
  out.mkdir(parents=True, exist_ok=True)
  image_io.save_png(out / 'grid.png', image_io.grid(images, captions, columns=min(8, each)))
  for i, (image, caption) in enumerate(zip(images, captions)):
    name = re.sub(r'[^a-z0-9]+', '_', caption.lower()).strip('_')[:60]
    image_io.save_png(out / f'{i // each:03d}_{name}_{i % each}.png',
                      (image * 255).round().astype('uint8'))
