"""Puts a finished run on a page of the documentation: curves, images over time, scores, config.

  pip install -e '.[report]'
  python tools/run_page.py --run runs/emoji64 --out docs/runs/emoji64

Writes curves.png, stages.png (the same held-out captions at four stages), last_train.png,
last_heldout.png, config.json and scores.jsonl into --out; the text of the page is written by hand.
"""
import argparse
import pathlib
import shutil

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from xmc_jax.report import curves, run_folder

_PANELS = {
    'discriminator': ('joint/d/hinge', 'joint/d/sentence', 'joint/d/word'),
    'generator': ('joint/g/hinge', 'joint/g/sentence', 'joint/g/word', 'joint/g/image'),
    'accuracies': ('joint/accuracy/real', 'joint/accuracy/fake', 'joint/accuracy/sentence_real',
                   'joint/accuracy/sentence_fake')}


def save_curves(run: run_folder.Run, out: pathlib.Path) -> None:
  figure = Figure(figsize=(15, 4), layout='constrained')
  for axes, (title, names) in zip(figure.subplots(1, len(_PANELS)), _PANELS.items()):
    chart = curves.Chart(title, [curves.Line(name.removeprefix('joint/'), i, *run.series(name))
                                 for i, name in enumerate(names)])
    if chart.lines:
      curves.draw(axes, chart)
      axes.legend()
    axes.set_title(title)
  figure.savefig(out / 'curves.png', dpi=80)


def save_stages(run: run_folder.Run, out: pathlib.Path, count: int = 4) -> None:
  """The upper half of the held-out grid at `count` stages, from top to bottom."""
  files = run.images['heldout']
  chosen = [files[i] for i in np.linspace(0, len(files) - 1, count).round().astype(int)]
  grids = [Image.open(path).convert('RGB') for _, path in chosen]
  height = grids[0].height // 2
  sheet = Image.new('RGB', (grids[0].width, count * height), 'white')
  for i, grid in enumerate(grids):
    sheet.paste(grid.crop((0, 0, grid.width, height)), (0, i * height))
  sheet.save(out / 'stages.png', optimize=True)
  print('stages:', ', '.join(str(step) for step, _ in chosen))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--run', type=pathlib.Path, required=True)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  args = parser.parse_args()
  args.out.mkdir(parents=True, exist_ok=True)
  [run] = run_folder.read([args.run])
  save_curves(run, args.out)
  save_stages(run, args.out)
  files = {f'last_{split}.png': found[-1][1] for split, found in run.images.items()}
  for name, path in (files | {n: args.run / n for n in ('config.json', 'scores.jsonl')}).items():
    if path.exists():
      shutil.copy(path, args.out / name)


if __name__ == '__main__':
  main()
