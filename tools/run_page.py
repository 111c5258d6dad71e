"""Puts a finished run on a page of the documentation: curves, images over time, scores, config.

  pip install -e '.[docs]'
  python tools/run_page.py --run runs/emoji64 --out docs/runs/emoji64

Writes curves.png, stages.png (the same held-out captions at four stages), last_train.png,
last_heldout.png, config.json and scores.jsonl into --out; the words around them are the author's.
"""
import argparse
import json
import pathlib
import shutil

import matplotlib
import numpy as np
from PIL import Image

matplotlib.use('Agg')
from matplotlib import pyplot as plt

PANELS = {
    'discriminator': ('joint/d/hinge', 'joint/d/sentence', 'joint/d/word'),
    'generator': ('joint/g/hinge', 'joint/g/sentence', 'joint/g/word', 'joint/g/image'),
    'accuracies': ('joint/accuracy/real', 'joint/accuracy/fake', 'joint/accuracy/sentence_real',
                   'joint/accuracy/sentence_fake'),
}


def curves(lines: list[dict], out: pathlib.Path) -> None:
  """Loss terms and accuracies over steps, means over about fifty points."""
  figure, axes = plt.subplots(1, len(PANELS), figsize=(15, 4), layout='constrained')
  step = np.array([line['step'] for line in lines])
  width = max(1, len(step) // 50)
  for axis, (title, names) in zip(axes, PANELS.items()):
    for name in names:
      values = np.array([line[name] for line in lines])
      smooth = np.convolve(values, np.ones(width) / width, 'valid')
      axis.plot(step[width - 1:], smooth, label=name.removeprefix('joint/'))
    axis.set(title=title, xlabel='step')
    axis.legend()
  figure.savefig(out / 'curves.png', dpi=80)


def stages(images: pathlib.Path, out: pathlib.Path, count: int = 4) -> None:
  """The upper half of the held-out grid at `count` stages, from top to bottom."""
  files = sorted(images.glob('heldout_*.png'))
  chosen = [files[i] for i in np.linspace(0, len(files) - 1, count).round().astype(int)]
  grids = [Image.open(file).convert('RGB') for file in chosen]
  height = grids[0].height // 2
  sheet = Image.new('RGB', (grids[0].width, count * height), 'white')
  for i, grid in enumerate(grids):
    sheet.paste(grid.crop((0, 0, grid.width, height)), (0, i * height))
  sheet.save(out / 'stages.png', optimize=True)
  for name in ('train', 'heldout'):
    last = sorted(images.glob(f'{name}_*.png'))[-1]
    shutil.copy(last, out / f'last_{name}.png')
  print('stages:', ', '.join(str(int(file.stem.split('_')[1])) for file in chosen))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--run', type=pathlib.Path, required=True)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  args = parser.parse_args()
  args.out.mkdir(parents=True, exist_ok=True)
  lines = [json.loads(line) for line in (args.run / 'metrics.jsonl').open()]
  curves(lines, args.out)
  stages(args.run / 'images', args.out)
  for name in ('config.json', 'scores.jsonl'):
    if (args.run / name).exists():
      shutil.copy(args.run / name, args.out / name)


if __name__ == '__main__':
  main()
