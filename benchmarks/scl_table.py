"""Does supervised contrast help? Trains families with and without it, and tables their scores.

  python -m benchmarks.scl_table run              # everything, in the order of the plan; resumes
  python -m benchmarks.scl_table run ssa_gan/emoji # what begins so
  python -m benchmarks.scl_table table            # docs/scl.md from docs/runs/scl.jsonl
  python -m benchmarks.scl_table images           # docs/runs/scl_emoji.png, scl_scenes.png

A run is FAMILY/DATA/METHOD/SEED: an encoder is trained, then a generator that reads with it, then
`xmc evaluate` scores it. Scores go to docs/runs/scl.jsonl, one line a run, with the commit and the
versions of that time; what is there is not run again. Everything else lies in runs/scl/ and may be
deleted.
"""
from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import pathlib
import statistics
import subprocess
import sys
import threading

from benchmarks import results
from benchmarks.results import ROOT

RESULTS, PAGE, RUNS = ROOT / 'docs/runs/scl.jsonl', ROOT / 'docs/scl.md', ROOT / 'runs/scl'
ENCODING = collections.defaultdict(threading.Lock)
PROVENANCE = ('step', 'config_sha256', *results.PROVENANCE)
PAIRS = 'encoder: pairs'
# Held-out ones, of things that these sizes can tell apart.
CAPTIONS = {
    'emoji': ('grinning face with smiling eyes', 'woman office worker', 'man standing', 'eggplant',
              'desert island', 'mobile phone off button', 'flag of Morocco', 'flag of Cyprus'),
    'scenes': ('a small red apple above a tractor', 'two small lemons below two zebras',
               'a top hat above a car', 'two small snakes and two red apples',
               'a large tractor to the right of a small snail', 'two flamingos and a banana',
               'two soccer balls and two small snails', 'a doughnut and two bees')}

# What one run is: sizes and lengths that two cores train in minutes, the same for all methods.
SHARED = ('--config.data.loader=arrays', '--config.every.report=100')
ENCODER = ('--config.every.save=300',)
GENERATOR = ('--config.model.size=32', '--config.every.save=500', '--config.every.images=500')
# Steps of the encoder and of the generator. Scenes hold several things, so both need more; one
# family shows what still more does.
STEPS = {'emoji': (600, 1000), 'scenes': (1500, 2500), 'ssa_gan/scenes': (1500, 5000)}
ENCODERS = {'attngan': 'damsm', 'dm_gan': 'damsm', 'ssa_gan': 'damsm', 'galip': 'clip'}
OF_THE_FAMILY = {
    'damsm': ('--config.model.size=32', '--config.batch_size=24'),
    'clip': ('--config.batch_size=32',),
    'attngan': ('--config.model.width=16', '--config.model.d_width=16'),
    'dm_gan': ('--config.model.width=16', '--config.model.d_width=16'),
    'ssa_gan': (),
    'galip': ('--config.batch_size=16',)}


@dataclasses.dataclass(frozen=True)
class Method:
  """framework: two branches. Further flags for the encoder and for the generator."""
  framework: bool
  encoder: tuple[str, ...] = ()
  generator: tuple[str, ...] = ()


def _supcon(captions=0, images=0, pairs=0, labels=0) -> tuple[str, ...]:
  return tuple(f'--config.terms.{name}={weight}' for name, weight in (
      ('supcon_text', captions), ('supcon_image', images), ('unicl', pairs),
      ('labels', labels)))


SELF = '--config.data.partners=self'
NO_TERM = ('--config.scl.supcon_fake=0',)
METHODS = {
  # One branch, no labels.
  'plain': Method(False),
  # One branch, with the mask of same-class pairs that all below have.
  'mask': Method(
    False, ('--config.terms.mask_same_class=True',), ('--config.terms.damsm_mask_same_class=True',)
  ),
  # Two branches, supervised contrast in both phases.
  'framework': Method(True),
  # Two branches, without these losses.
  'no term': Method(True, _supcon(), NO_TERM),
  # Two captions of one image, NT-Xent (arXiv 2107.02423).
  'same image': Method(True, (SELF, *_supcon(captions=1)), (SELF,)),
  # Two branches, contrast of images with captions only.
  'UniCL': Method(True, _supcon(pairs=1), (*NO_TERM, '--config.scl.unicl=0.2')),
  # Two branches, cross-entropy of labels in the encoder's training.
  'classes': Method(True, _supcon(labels=1), NO_TERM),
}
FULL, PAIR = tuple(METHODS), ('plain', 'framework')

# (family, data, methods, seeds)
PLAN = (
    ('ssa_gan', 'emoji', FULL, (0, 1, 2)),
    *((family, 'emoji', PAIR, (0,)) for family in ('attngan', 'dm_gan')),
    *((family, 'scenes', PAIR, (0,)) for family in ('ssa_gan', 'attngan', 'dm_gan')),
    *(('galip', data, PAIR, (0,)) for data in ('emoji', 'scenes')))


@dataclasses.dataclass(frozen=True)
class Cell:
  family: str
  data: str
  method: str
  seed: int

  @property
  def name(self) -> str:
    return f'{self.family}/{self.data}/{self.method}/{self.seed}'

  @property
  def folder(self) -> pathlib.Path:
    return RUNS / self.name.replace('/', '-').replace(' ', '_')

  @property
  def encoder(self) -> pathlib.Path:
    """The folder of the run whose encoder it reads with; families share it."""
    name = f'{ENCODERS[self.family]}-{self.data}-{self.method}-{self.seed}'
    return RUNS / name.replace(' ', '_')

  @property
  def steps(self) -> tuple[int, int]:
    """Of the encoder and of the generator."""
    return STEPS.get(f'{self.family}/{self.data}', STEPS[self.data])


def cells() -> list[Cell]:
  """The plan, seed by seed, so that a plan cut short has whole comparisons."""
  everything = [Cell(family, data, method, seed) for family, data, methods, seeds in PLAN
                for seed in seeds for method in methods]
  return sorted(everything, key=lambda cell: cell.seed)


def _xmc(core: int, log: pathlib.Path, *argv: str) -> None:
  """Runs `xmc` on a core; what it prints goes to `log`."""
  log.parent.mkdir(parents=True, exist_ok=True)
  with log.open('a') as out:
    done = subprocess.run(['taskset', '--cpu-list', str(core), sys.executable, '-m', 'xmc_jax',
                           *argv], cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
  if done.returncode:
    raise SystemExit(f'xmc {" ".join(argv)}\nended with code {done.returncode}; see {log}')


def _train(core: int, workdir: pathlib.Path, kind: str, cell: Cell, *flags: str) -> None:
  config = f'{kind}_{cell.data}'
  config = f'scl.py:{config}' if METHODS[cell.method].framework else f'{config}.py'
  _xmc(core, workdir.with_suffix('.log'), 'train', f'--config=configs/{config}',
       f'--workdir={workdir}', f'--config.seed={cell.seed}', *SHARED, *OF_THE_FAMILY[kind], *flags)


def run(cell: Cell, core: int) -> dict[str, object]:
  """Trains and scores one cell on one core: the line of RESULTS."""
  method, kind, generator, encoder = (
      METHODS[cell.method], ENCODERS[cell.family], cell.folder, cell.encoder)
  first, second = cell.steps
  with ENCODING[encoder]:      # families share it
    _train(core, encoder, kind, cell, *ENCODER, f'--config.steps={first}', *method.encoder)
  _train(core, generator, cell.family, cell, *GENERATOR, f'--config.steps={second}',
         f'--config.text.encoder={(encoder / "encoder").relative_to(ROOT)}', *method.generator)
  _xmc(core, generator.with_suffix('.log'), 'evaluate', f'--workdir={generator}')
  lines = [json.loads(line) for line in (generator / 'scores.jsonl').read_text().splitlines()]
  return {'run': cell.name, **{key: lines[-1][key] for key in PROVENANCE},
          'scores': {**{line['metric']: line['value'] for line in lines}, PAIRS: _pairs(encoder)}}


def _pairs(encoder: pathlib.Path) -> float:
  """Share of training rows whose other side is the nearest of the batch, in [0, 1].

  At the end of the encoder run in that folder: over its last report's steps, both directions' mean.
  """
  last = json.loads((encoder / 'metrics.jsonl').read_text().splitlines()[-1])
  return statistics.mean(value for name, value in last.items()
                         if name.startswith('match/accuracy/'))


def known() -> dict[str, dict[str, object]]:
  """The lines of RESULTS by the name of their run."""
  return results.known(RESULTS)


COLUMNS = (      # heading, metric, factor, digits
    ('pairs, %', PAIRS, 100, 0),
    ('FD', 'FD-lite0', 1, 1), ('KID x 1000', 'KID-lite0', 1000, 1),
    ('R-precision, %', 'alignment-16', 100, 1),
    ('objects, %', 'objects: objects', 100, 1), ('counts, %', 'objects: counts', 100, 1))


def table() -> str:
  """The results as Markdown, one table a family and data set."""
  found = collections.defaultdict(list)
  for name, line in known().items():
    found[name.rpartition('/')[0]].append({'step': line['step'], **line['scores']})
  parts = []
  for family, data, methods, _ in PLAN:
    rows = [(method, runs) for method in methods
            if (runs := found.get(f'{family}/{data}/{method}'))]
    if not rows:
      continue
    columns = [c for c in COLUMNS if any(c[1] in run for _, runs in rows for run in runs)]
    head = ['', 'seeds', *(c[0] for c in columns)]
    body = [[method, str(len(runs)), *(
        results.figure([factor * run[metric] for run in runs if metric in run], digits)
        for _, metric, factor, digits in columns)] for method, runs in rows]
    steps = ' or '.join(f'{n:,}' for n in sorted({run['step'] for _, runs in rows for run in runs}))
    parts += [f'### {family}, {data}, {steps} steps\n', results.markdown(head, body), '']
  return '\n'.join(parts).rstrip()


def _draw() -> None:
  """The same captions with the same noise, a row for every run of seed 0."""
  import numpy as np  # not for `run`, whose memory belongs to the trainings

  from xmc_jax.sampling import TextToImage
  from xmc_jax.utils import image_io
  done = [cell for cell in cells() if cell.name in known() and not cell.seed]
  for data, captions in CAPTIONS.items():
    rows, words = [], []
    for cell in (cell for cell in done if cell.data == data):
      model = TextToImage.load(cell.folder, text_encoder=cell.encoder / 'encoder')
      images = model.generate(captions, seed=0)
      rows += [np.ones_like(images[:1]), images]
      words += [f'{cell.family}, {cell.method}', *captions]
    if rows:
      sheet = image_io.grid(np.concatenate(rows), words, 1 + len(captions))
      image_io.save_png(PAGE.parent / f'runs/scl_{data}.png', sheet)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('what', choices=('run', 'table', 'images', 'plan'))
  parser.add_argument('prefix', nargs='?', default='', help='of the names of the runs')
  args = parser.parse_args()
  if args.what == 'run':
    results.run_missing(RESULTS, cells(), args.prefix, run)
  elif args.what == 'table':
    results.insert(PAGE, 'table', table())
  elif args.what == 'images':
    _draw()
  else:
    done = known()
    print('\n'.join(f'{"done " if c.name in done else "     "}{c.name}' for c in cells()
                    if c.name.startswith(args.prefix)))


if __name__ == '__main__':
  main()
