"""What each contrastive loss gives: trains methods with and without them, and tables their scores.

  python -m benchmarks.ablation run             # everything, seed by seed; goes on where it stopped
  python -m benchmarks.ablation run swift       # what begins so
  python -m benchmarks.ablation table           # docs/ablation.md from docs/runs/ablation.jsonl
  python -m benchmarks.ablation images          # docs/runs/ablation_*.png, and the plot beside them

A run is QUESTION/ROW/SEED. It trains for a budget of processor time, and `xmc evaluate` scores it
twice: at a number of steps that all rows reach, and at the end of its budget. The scores go to
docs/runs/ablation.jsonl, one line a run; what is there is not run again, and a run that was cut
short begins anew. Everything else lies in runs/ablation/ and may be deleted.
"""
from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import textwrap

from benchmarks import results, speedrun
from benchmarks.results import ROOT

RESULTS, PAGE = ROOT / 'docs/runs/ablation.jsonl', ROOT / 'docs/ablation.md'
RUNS = ROOT / 'runs/ablation'
FAKES = 396       # images that are scored: of emoji two of each of the 198 held-out images
COLUMNS = (       # heading, metric, factor, digits
    ('FD-lite0', 'FD-lite0', 1, 1), ('KID x 1000', 'KID-lite0', 1000, 1),
    ('alignment, %', 'alignment-16', 100, 1), ('objects, %', 'objects: objects', 100, 1))
PAIRED = 'alignment-16'      # the score of the last column and of the plot
COLUMNS_OF_PLOTS = 3
# Of training, then held out.
CAPTIONS = ('grinning face', 'red heart', 'pizza', 'flag of Japan', 'elephant',
            'woman office worker', 'eggplant', 'desert island')
OF_SCENES = ('a large strawberry on a blue background', 'two red apples', 'three sunflowers',
             'a penguin above a large drum', 'a zebra', 'two elephants and a pear',
             'a rocket to the left of a castle', 'four bees on a pink background')


def terms(*on: str, names: tuple[str, ...]) -> tuple[str, ...]:
  """Flags that leave out all losses of `names` but those named."""
  return tuple(f'--config.terms.{name}=0' for name in names if name not in on)


def swift(*on: str) -> tuple[str, ...]:
  """The flags of a row of Swift; the heads and the generator learn from the same contrasts."""
  return terms(*on, *(f'heads_{name}' for name in on),
               names=('sentence', 'word', 'heads_sentence', 'heads_word'))


def xmc_gan(*on: str) -> tuple[str, ...]:
  """The flags of a row of XMC-GAN."""
  return terms(*on, names=('sentence', 'word', 'image'))


@dataclasses.dataclass(frozen=True)
class Question:
  """Rows that differ in one thing: names and flags. minutes: of processor time. steps: of all rows.

  title: the heading of its table. plain: the rows that have another config than the others.
  captions: of its sheet of images. encoder: flags of `xmc train` for the text encoder that all its
    rows read with; its time is not counted.
  """
  title: str
  config: str
  flags: tuple[str, ...]
  rows: dict[str, tuple[str, ...]]
  minutes: float
  steps: int
  seeds: int = 3
  plain: dict[str, str] = dataclasses.field(default_factory=dict)
  captions: tuple[str, ...] = CAPTIONS
  encoder: tuple[str, ...] = ()

  def flags_of(self, row: str) -> tuple[str, ...]:
    """The flags of `xmc train` of a row, without those of a run."""
    return ('--config', self.plain.get(row, self.config), *self.flags, *self.rows[row])


SMALL = ('--config.model.size=32', '--config.data.loader=arrays', '--config.every.report=100',
         '--config.every.images=100000')
# The runs of docs/ablation.md are older than Muon.
SWIFT = (*SMALL, '--config.model.widths=(192,128,48)', '--config.optim.g.muon=0')
QUESTIONS = {
    'swift': Question(
        'Swift, emoji at 32 px: contrasts beside heads over a frozen network',
        'swift_emoji64', SWIFT,
        {'none': swift(), 'word': swift('word'), 'sentence': swift('sentence'),
         'sentence + word': swift('sentence', 'word')}, minutes=3.5, steps=1500),
    'xmc_gan': Question(
        'XMC-GAN, emoji at 32 px',
        'emoji64', (*SMALL, '--config.model.width=16'),
        {'none': xmc_gan(), 'word': xmc_gan('word'), 'sentence': xmc_gan('sentence'),
         'sentence + word': xmc_gan('sentence', 'word'),
         'sentence + word + image': xmc_gan('sentence', 'word', 'image')}, minutes=4, steps=600),
    'xmc_gan_long': Question(
        'XMC-GAN, emoji at 32 px, for longer',
        'emoji64', (*SMALL, '--config.model.width=16'),
        {'word': xmc_gan('word'), 'sentence': xmc_gan('sentence'),
         'sentence + word': xmc_gan('sentence', 'word')}, minutes=9.5, steps=1800),
    'scl': Question(
        'Supervised contrast with Swift, emoji at 32 px',
        'scl:swift_emoji64', SWIFT,
        {'one branch': (), 'two branches, no term': ('--config.scl.supcon_fake=0',),
         'same image': ('--config.data.partners=self',),
         'framework': (),
         'framework x 10': ('--config.scl.supcon_fake=2.0',)}, minutes=5, steps=1000,
        plain={'one branch': 'swift_emoji64'}),
    'scl_tries': Question(
        'What might let the term of supervised contrast work: Swift, emoji at 32 px',
        'scl:swift_emoji64', SWIFT,
        {'no term': ('--config.scl.supcon_fake=0',),
         'framework': (),
         'weight 1': ('--config.scl.supcon_fake=1.0',),
         'temperature 0.1': ('--config.scl.temperature=0.1',),
         'temperature 0.1, weight 1': ('--config.scl.temperature=0.1',
                                       '--config.scl.supcon_fake=1.0'),
         'discriminator': ('--config.scl.embedding=discriminator',),
         'discriminator, reals too': ('--config.scl.embedding=discriminator',
                                      '--config.scl.supcon_real=0.5'),
         'fakes with reals': ('--config.scl.supcon_fake=0', '--config.scl.fake_real=0.2'),
         'fakes with reals, discriminator': (
             '--config.scl.embedding=discriminator', '--config.scl.supcon_fake=0',
             '--config.scl.fake_real=0.2'),
         'UniCL': ('--config.scl.embedding=discriminator', '--config.scl.supcon_fake=0',
                   '--config.scl.unicl=0.05'),
         'UniCL for the sentence contrast': (
             '--config.scl.embedding=discriminator', '--config.scl.supcon_fake=0',
             '--config.scl.unicl=0.05', '--config.terms.sentence=0')},
        minutes=4, steps=800, seeds=3),
    'scl_batch': Question(
        'Supervised contrast with 64 examples a batch: Swift, emoji at 32 px',
        'scl:swift_emoji64', (*SWIFT, '--config.batch_size=64'),
        {'no term': ('--config.scl.supcon_fake=0',), 'framework': ()},
        minutes=8, steps=350, seeds=2),
    'negatives': Question(
        'Swift, emoji at 32 px, 32 examples a batch: how many negatives',
        'swift_emoji64', (*SWIFT, '--config.batch_size=32'),
        {'4': ('--config.negatives=local:4',), '8': ('--config.negatives=local:8',),
         '32': ('--config.negatives=global',)}, minutes=5, steps=900),
    'batch': Question(
        'Swift, emoji at 32 px: examples a batch, all of which contrast', 'swift_emoji64', SWIFT,
        {rows: (f'--config.batch_size={rows}',) for rows in ('16', '32', '64')}, minutes=5,
        steps=500),
    'labels': Question(
        'Supervised contrast with Swift, scenes at 32 px: which images have the same label',
        'scl:swift_scenes64', (*SWIFT, '--config.model.places=False',
                               '--config.model.z_features=64'),
        {'one branch': (), 'exact': (), 'overlap': ('--config.data.partners=overlap',),
         'jaccard': ('--config.data.partners=jaccard',)}, minutes=6, steps=500,
        plain={'one branch': 'swift_scenes64'}, captions=OF_SCENES),
    'scl_ssa_gan': Question(
        'Supervised contrast with SSA-GAN, emoji at 32 px',
        'scl:ssa_gan_emoji', SMALL,
        {'one branch': (), 'two branches, no term': ('--config.scl.supcon_fake=0',),
         'framework': ()}, minutes=8, steps=500, seeds=1,
        plain={'one branch': 'ssa_gan_emoji'},
        encoder=('--config', 'damsm_emoji', *SMALL, '--config.steps=1500',
                 '--config.batch_size=24')),
}


@dataclasses.dataclass(frozen=True)
class Run:
  question: str
  row: str
  seed: int

  @property
  def name(self) -> str:
    return f'{self.question}/{self.row}/{self.seed}'

  @property
  def folder(self) -> pathlib.Path:
    return RUNS / self.name.replace('/', '-').replace(' ', '')


def runs() -> list[Run]:
  """All runs, seed by seed, so that a plan cut short has whole comparisons."""
  everything = [Run(name, row, seed) for name, question in QUESTIONS.items()
                for row in question.rows for seed in range(question.seeds)]
  return sorted(everything, key=lambda run: run.seed)


def text_encoder(run: Run, xmc: list[str]) -> tuple[str, ...]:
  """The flag that names the text encoder of the run's question, if any, which it trains first."""
  flags, folder = QUESTIONS[run.question].encoder, RUNS / f'encoder-{run.question}'
  if not flags:
    return ()
  with folder.with_suffix('.log').open('a') as out:      # does nothing if it is finished
    subprocess.run([*xmc, 'train', *flags, '--workdir', str(folder)], check=True, stdout=out)
  return (f'--config.text.encoder={folder / "encoder"}',)


def execute(run: Run, core: int) -> dict[str, object]:
  """Trains and scores one run on one core: its line of RESULTS."""
  question, folder = QUESTIONS[run.question], run.folder
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)
  log = folder.with_suffix('.log')
  xmc = ['taskset', '--cpu-list', str(core), sys.executable, '-m', 'xmc_jax']
  cost = speedrun.train(
      [*xmc, 'train', *question.flags_of(run.row), '--workdir', str(folder),
       *text_encoder(run, xmc), f'--config.seed={run.seed}', '--config.steps=100000',
       f'--config.every.save={question.steps}', f'--config.keep_every={question.steps}'],
      question.minutes, log)
  scored, last = {}, {}
  for at in ([f'--step={question.steps}'], []):      # and the newest
    with log.open('a') as out:
      subprocess.run([*xmc, 'evaluate', '--workdir', str(folder), f'--fakes={FAKES}', *at],
                     check=True, stdout=out)
    lines = [json.loads(line) for line in (folder / 'scores.jsonl').read_text().splitlines()]
    last = lines[-1]
    scored[last['step']] = {line['metric']: line['value'] for line in lines
                            if line['step'] == last['step']}
  return {'run': run.name, **{key: last[key] for key in results.PROVENANCE}, **cost,
          'scores': scored}


Point = tuple[int, float, dict[str, float]]      # steps, core-minutes, scores


def found(name: str, question: Question) -> dict[str, dict[int, tuple[Point, ...]]]:
  """{row: {seed: its points, the first after equal steps, the last at the end of the budget}}."""
  rows: dict[str, dict[int, tuple[Point, ...]]] = collections.defaultdict(dict)
  known = results.known(RESULTS)
  for row in question.rows:
    for seed in range(question.seeds):
      if line := known.get(Run(name, row, seed).name):
        steps = sorted(map(int, line['scores']))
        rows[row][seed] = tuple((step, line['core_minutes'] * step / steps[-1],
                                 line['scores'][str(step)]) for step in steps)
  return rows


def table(rows: dict[str, dict[int, tuple[Point, ...]]], which: int) -> str:
  """A table of the point `which` of each run; the last column compares runs of the same seed."""
  body, (first, *_) = [], rows.values()
  scores = next(iter(first.values()))[which][2]
  columns = [column for column in COLUMNS if column[1] in scores]      # objects: of scenes alone
  for row, seeds in rows.items():
    points = {seed: points[which] for seed, points in seeds.items()}
    mean = lambda place: statistics.mean(point[place] for point in points.values())
    gains = [100 * (points[seed][2][PAIRED] - first[seed][which][2][PAIRED])
             for seed in points if seed in first and seeds is not first]
    body.append([row, str(len(points)), f'{mean(0):,.0f}', f'{mean(1):.1f}', *(
        results.figure([factor * point[2][metric] for point in points.values()], digits)
        for _, metric, factor, digits in columns), results.figure(gains, 1, signed=True)])
  return results.markdown(['row', 'seeds', 'steps', 'core-minutes', *(c[0] for c in columns),
                           'alignment against the first row'], body)


def answered() -> dict[str, dict[str, dict[int, tuple[Point, ...]]]]:
  """{question: what `found` gives}, of the questions that have at least two rows to compare."""
  everything = {name: found(name, question) for name, question in QUESTIONS.items()}
  return {name: rows for name, rows in everything.items() if len(rows) > 1}


def tables() -> str:
  """The results as Markdown, two tables a question: at equal steps, at equal processor time."""
  parts = []
  for name, rows in answered().items():
    question = QUESTIONS[name]
    parts += [f'### {question.title}\n', f'After {question.steps:,} steps:\n', table(rows, 0),
              f'\nAfter {question.minutes:g} core-minutes:\n', table(rows, -1), '']
  return '\n'.join(parts).rstrip()


def draw() -> None:
  """The same captions with the same noise, a row for every run of seed 0, one image a question."""
  import matplotlib.figure  # not for `run`, whose memory belongs to the trainings
  import numpy as np

  from xmc_jax.sampling import TextToImage
  from xmc_jax.utils import image_io
  asked = answered()
  height = -(-len(asked) // COLUMNS_OF_PLOTS)
  figure = matplotlib.figure.Figure((5 * COLUMNS_OF_PLOTS, 4 * height), layout='constrained')
  for i, (name, rows) in enumerate(asked.items()):
    axes = figure.add_subplot(height, COLUMNS_OF_PLOTS, i + 1, xlabel='core-minutes',
                              ylabel='alignment, %')
    axes.set_title(textwrap.fill(QUESTIONS[name].title, 55), fontsize=9)
    for row, seeds in rows.items():
      x = [[point[1] for point in points] for points in seeds.values()]
      y = [[100 * point[2][PAIRED] for point in points] for points in seeds.values()]
      axes.errorbar(np.mean(x, 0), np.mean(y, 0), np.std(y, 0, ddof=len(y) > 1), label=row,
                    marker='o', capsize=3)
    axes.legend(fontsize=8)
  figure.savefig(RESULTS.parent / 'ablation.png', dpi=100)

  for name, rows in asked.items():
    done = [run for row, seeds in rows.items() if 0 in seeds
            and (run := Run(name, row, 0)).folder.exists()]
    images, words, captions = [], [], QUESTIONS[name].captions
    for run in done:
      drawn = TextToImage.load(run.folder).generate(captions, seed=0)
      images += [np.ones_like(drawn[:1]), drawn]
      words += [run.row, *captions]
    if done:
      sheet = image_io.grid(np.concatenate(images), words, 1 + len(captions))
      image_io.save_png(RESULTS.parent / f'ablation_{name}.png', sheet)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('what', choices=('run', 'table', 'images'))
  parser.add_argument('prefix', nargs='?', default='', help='of the names of the runs')
  args = parser.parse_args()
  if args.what == 'run':
    results.run_missing(RESULTS, runs(), args.prefix, execute)
  elif args.what == 'table':
    results.insert(PAGE, 'tables', tables())
  else:
    draw()


if __name__ == '__main__':
  main()
