"""Generate images from captions: a folder of PNG files, and a grid with the captions beside it.

  xmc sample "a red apple"                                 # with a model of the package
  xmc sample --workdir runs/demo "a red apple" "the flag of France"
  xmc sample --workdir runs/demo --captions captions.txt --each 1 --out images

An image depends on the seed, on its caption and on its number among the images of that caption, not
on what is generated with it: a single line of captions.txt gives the same images again.
"""
from __future__ import annotations

import pathlib
import re

from xmc_jax.cli.parser import (
  add_processes,
  add_run,
  given_captions,
  joined,
  number,
  output_folder,
)

_COLUMNS = 8
_GRID = 'xmc sample'     # what a grid says of itself
_MOST_IN_LIST = 8        # captions that were replaced
_MOST_IN_GRID = 256      # images; at 256 px some 20 megapixels


def add_parser(commands):
  parser = commands.add_parser('sample', help='generate images from captions')
  flag = parser.add_argument
  flag('words', nargs='*', metavar='CAPTION', help='what the images show')
  flag('--caption', action='append', default=[], help='one more caption; may be repeated')
  flag('--captions', metavar='FILE', help='file with a caption per line')
  flag('--each', type=number(least=1, most=100_000), default=4, metavar='N',
       help='per caption; default: 4')
  flag('--out', metavar='FOLDER',
       help='of the images; default: RUN/samples, or samples; the grid is FOLDER.png')
  flag('--truncation', type=float, metavar='X',
       help='resample noise beyond X standard deviations: less variety; default: no limit')
  flag('--best_of', type=number(least=1), default=1, metavar='N',
       help='draw N images for each one and keep the one that the discriminator finds to show the '
       'caption best, where the model has one; default: 1')
  flag('--latent_steps', type=number(least=0), default=0, metavar='N',
       help='then move its noise N times by the gradient of what the discriminator finds, so that '
       'it shows the caption better; 16 are many; default: 0')
  flag('--nearest', type=float, metavar='X',
       help='draw a caption as the nearest one of the training if their cosine is below X; 0: draw '
       "every caption as it is; default: the model's own (emoji64: 0.95)")
  flag('--matcher', metavar='FILE', help='weights of a matching network, which helps to choose; '
       'see tools/train_matcher.py')
  add_run(parser, model=True)
  add_processes(parser)
  return parser


def run(args):
  captions = given_captions(args.words + args.caption, args.captions)
  if not captions:
    args.parser.error('nothing to sample: give captions, --caption "..." or --captions FILE')
  checkpoints = {'--step': args.step is not None, '--live': args.live,
                 '--text_encoder': args.text_encoder, '--matcher': args.matcher}
  if given := [] if args.workdir else [name for name, there in checkpoints.items() if there]:
    args.parser.error(f'{given[0]}: goes with --workdir RUN, which has checkpoints')
  if args.matcher and args.best_of == 1 and not args.latent_steps:
    args.parser.error('--matcher: goes with --best_of N, of which it chooses the best, or with '
                      '--latent_steps N')
  with joined(args):
    _sample(args, captions)


def _sample(args, captions: list[str]) -> None:
  import jax

  from xmc_jax.data.image_folder import find_images
  from xmc_jax.types import UserError
  from xmc_jax.utils import image_io
  out = output_folder(pathlib.Path(args.out or pathlib.Path(args.workdir or '') / 'samples'))
  grid = out.resolve().with_name(f'{out.resolve().name}.png')      # not among what is measured
  if grid.exists() and image_io.software_of(grid) != _GRID:
    raise UserError(f'--out={out}: the grid of the images would replace {grid}, which is none of '
                    'this command; move it away, or give another name')
  model = _load(args)
  model.tokenizer.check_captions(captions, model.config.text.script)
  if args.nearest is not None:
    model = model.with_nearest(args.nearest)
  drawn = model.drawn_captions(captions)
  repeated = [caption for caption in captions for _ in range(args.each)]
  writes, names, shown = jax.process_index() == 0, set(), []
  for i, image in enumerate(model.stream(repeated, seed=args.seed, truncation=args.truncation,
                                         best_of=args.best_of,
                                         latent_steps=args.latent_steps)):
    names.add(name := _file_name(repeated[i], i // args.each, i % args.each, len(captions)))
    if writes:
      image_io.save_png(out / name, image_io.pixels(image))
    if i < _MOST_IN_GRID:
      shown.append(image)
  if not writes:
    return
  image_io.save_png(grid, image_io.grid(
      shown, repeated[:len(shown)], columns=args.each if 1 < args.each < _COLUMNS else _COLUMNS),
      software=_GRID)
  replaced = [pair for pair in zip(captions, drawn, strict=True) if pair[0] != pair[1]]
  for caption, other in replaced[:_MOST_IN_LIST]:
    print(f'{caption!r} is no caption of the training; drawn as the nearest one, {other!r}')
  if more := replaced[_MOST_IN_LIST:]:
    print(f'so were {len(more):,} more')
  plural = 's' if len(captions) > 1 else ''
  print(f'{len(repeated):,} images of {len(captions):,} caption{plural} with the {model.weights} '
        f'weights of step {model.step:,} are in {out}; '
        f'{"all" if len(shown) == len(repeated) else f"the first {len(shown)}"} as a grid: {grid}')
  if others := find_images(out).paths.keys() - names:
    print(f'{out} also holds {len(others):,} images that this command has not written, such as '
          f'{min(others)}; delete them, or give another --out, before you measure the folder')


def _load(args):
  if args.workdir:
    from xmc_jax.sampling import TextToImage
    return TextToImage.load(args.workdir, step=args.step, live=args.live,
                            text_encoder=args.text_encoder, matcher=args.matcher)
  from xmc_jax.pretrained import model
  return model.load(args.model or model.DEFAULT).generator


def _file_name(caption: str, row: int, copy: int, rows: int) -> str:
  words = re.sub(r'[^a-z0-9]+', '_', caption.lower()).strip('_')[:60]
  return f'{row:0{max(3, len(str(rows - 1)))}d}_{words}_{copy}.png'
