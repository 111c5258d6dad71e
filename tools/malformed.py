"""Malformed inputs of every kind that `xmc` reads: the cases of tools/fuzz.py.

A case takes a good input, damages one file or flag of it, and says which command reads it.
"""
from __future__ import annotations

import json
import pathlib
import shutil
import sys
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from damage import VALUES, damage_file

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / 'tests'), str(ROOT / 'tests' / 'prepare'), str(ROOT)]


class Case(NamedTuple):
  name: str
  argv: list[str]
  image: pathlib.Path | None = None      # what the command draws, if it must not differ


class Good(NamedTuple):
  """Inputs that every command accepts; cases damage copies of them."""
  encoder: pathlib.Path
  own: pathlib.Path          # images with captions beside them
  table: pathlib.Path        # images with a table of captions
  coco: pathlib.Path
  birds: pathlib.Path
  prepared: pathlib.Path     # `own` after `xmc prepare`
  run: pathlib.Path          # trained on the demo's data
  config: pathlib.Path       # a config file


def copied(good: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
  target = folder / good.name
  shutil.copytree(good, target) if good.is_dir() else shutil.copy(good, target)
  return target


def damaged(good: pathlib.Path, folder: pathlib.Path, random: Random, below: str = ''
            ) -> tuple[str, pathlib.Path]:
  """(what was done to which file, a copy of `good` with it)."""
  target = copied(good, folder)
  files = sorted(p for p in (target / below).rglob('*') if p.is_file())
  # A kind of file by chance, then one of them: or the many images would hide the few tables.
  suffix = random.choice(sorted({p.suffix for p in files}))
  path = random.choice([p for p in files if p.suffix == suffix])
  return f'{path.relative_to(folder)}: {damage_file(path, random)}', target


# Kinds of cases: (good inputs, empty folder, random) -> case.


def prepare_argv(name: str, source: pathlib.Path, out: pathlib.Path) -> list[str]:
  return ['xmc', 'prepare', name, f'--source={source}', f'--out={out}', '--size=32', '--workers=1']


def preparing(name: str, field: str) -> Callable[[Good, pathlib.Path, Random], Case]:
  def case(good: Good, folder: pathlib.Path, random: Random) -> Case:
    what, source = damaged(getattr(good, field), folder, random)
    return Case(what, prepare_argv(name, source, folder / 'out'))
  return case


def captions(good: Good, folder: pathlib.Path, random: Random) -> Case:
  path = folder / 'captions.txt'
  path.write_text('a red apple\nthe flag of France\n')
  what = damage_file(path, random)
  return Case(f'captions.txt: {what}', sample_argv(good.run, folder, f'--captions={path}'))


def sample_argv(run: pathlib.Path, folder: pathlib.Path, *flags: str) -> list[str]:
  return ['xmc', 'sample', f'--workdir={run}', f'--out={folder / "out"}', '--each=1', *flags]


def checkpoint(good: Good, folder: pathlib.Path, random: Random) -> Case:
  what, run = damaged(good.run, folder, random, 'checkpoints/2')
  if random.random() < 0.3:
    return Case(what, ['xmc', 'train', f'--workdir={run}', '--config.steps=3'])
  return Case(what, sample_argv(run, folder, '--caption=a red apple'),
              folder / 'out' / '000_a_red_apple_0.png')


def run_folder(good: Good, folder: pathlib.Path, random: Random) -> Case:
  """A file of the run that is not in a checkpoint, and a command that reads it."""
  run = copied(good.run, folder)
  path = random.choice(sorted(p for p in run.iterdir() if p.is_file()))
  what = damage_file(path, random)
  argv = random.choice([
      sample_argv(run, folder, '--caption=a red apple'),
      ['xmc', 'report', str(run)],
      ['xmc', 'train', f'--workdir={run}', '--config.steps=3']])
  return Case(f'{path.name}: {what}', argv)


def encoder(good: Good, folder: pathlib.Path, random: Random) -> Case:
  what, path = damaged(good.encoder, folder, random)
  return Case(what, sample_argv(good.run, folder, '--caption=a red apple',
                                f'--text_encoder={path}'))


def prepared_set(good: Good, folder: pathlib.Path, random: Random) -> Case:
  import tiny
  what, path = damaged(good.prepared, folder, random)
  if random.random() < 0.5:
    return Case(what, ['xmc', 'prepare', f'--check={path}'])
  return Case(what, tiny.train_argv(folder / 'run', good.encoder, steps=1, data__name='records',
                                    data__options__folder=path, data__loader='arrays'))


def compared(good: Good, folder: pathlib.Path, random: Random) -> Case:
  what, path = damaged(good.own, folder, random)
  return Case(what, ['xmc', 'compare', f'--images={path}', f'--reference={good.own}',
                     '--protocol=offline'])


def config_file(good: Good, folder: pathlib.Path, random: Random) -> Case:
  path = copied(good.config, folder)
  lines = path.read_text().splitlines(keepends=True)
  keys = [i for i, line in enumerate(lines) if line.startswith('  config.')]
  at = random.choice(keys)
  name = lines[at].partition('=')[0].strip()
  value = random.choice(VALUES)
  lines[at] = random.choice([f'  {name} = {value!r}\n', f'  {name}.more = 1\n', f'  {name}\n',
                             '  return None\n', f'  {name} = \n', '  1 / 0\n',
                             f'  {name} = open("nowhere")\n', f'  {name}z = 2\n'])
  path.write_text(''.join(lines).replace('nan', 'float("nan")').replace('inf', 'float("inf")'))
  return Case(f'config: {lines[at].strip()}',
              ['xmc', 'train', f'--config={path}', f'--workdir={folder / "run"}'])


def config_flag(good: Good, folder: pathlib.Path, random: Random) -> Case:
  """One key of the config set to something that is no value of it."""
  import tiny

  from xmc_jax.cli import config_file as files
  from xmc_jax.config import flat
  key = random.choice(sorted(flat(files.load(str(tiny.DEMO)))))
  value = random.choice(('', '-1', '0', 'nan', 'inf', '-inf', 'x', '[]', '()', '1e400', 'None',
                         '9' * 30, '../..', 'True', '0.5', '{', '"', '1,2', "('a',)", '\ud7ff'))
  return Case(f'{key}={value}', [*tiny.train_argv(folder / 'run', good.encoder, steps=1,
                                                  data__loader='arrays'),
                                 f'--config.{key}={value}'])


def flags(good: Good, folder: pathlib.Path, random: Random) -> Case:
  """A good command with one word misspelled, emptied, or with a value that it cannot have."""
  argv = random.choice([
      sample_argv(good.run, folder, '--caption=a red apple', '--seed=1', '--truncation=1.0',
                  '--step=2'),
      prepare_argv('folder', good.own, folder / 'out') + ['--codec=png', '--quality=90',
                                                          '--margin=1.2'],
      ['xmc', 'evaluate', f'--workdir={good.run}', '--protocol=offline', '--step=2',
       '--random_weights=0', '--fakes=8'],
      ['xmc', 'compare', f'--images={good.own}', f'--reference={good.own}', '--protocol=offline'],
      ['xmc', 'report', str(good.run)],
      ['xmc', 'weights', 'check', 'squeezenet'], ['xmc', 'describe', '--config=demo'],
      ['xmc', 'soa', f'--workdir={good.run}', f'--captions={folder}']])
  at = random.randrange(1, len(argv))
  name, equals, _ = argv[at].partition('=')
  argv = list(argv)
  argv[at] = random.choice([
      name + equals, name, name[:-1] + equals + '1', f'{name}={random.choice(VALUES)!r}'.replace(
          '\\x00', ''), f'{name}=-1', f'{name}=nan', f'{name}={folder}', f'{name}=/dev/null',
      f'{name}={good.config}', f'{name}=' + 'y' * 300, name.upper() + equals + '2', '--', '-x', ''])
  return Case(f'{argv[1]}: {argv[at]!r:.60}', argv)


def tables(good: Good, folder: pathlib.Path, random: Random) -> Case:
  """A table of captions in another shape."""
  source = copied(good.table, folder)
  (source / 'captions.csv').unlink()
  names = sorted(p.name for p in source.glob('*.png'))
  header = random.choice([('file', 'caption'), ('file_name', 'text'), ('filepath', 'title'),
                          ('image', 'description'), ('a', 'b'), ('caption', 'file'), ()])
  rows = [header] * bool(header) + [(name, f'a thing, number {i}') for i, name in enumerate(names)]
  separator = random.choice([',', ';', '\t', '|', ' '])
  odd = random.randrange(1, len(rows))
  rows[odd] = random.choice([(), rows[odd][:1], ('missing.png', 'x'), ('../0.png', 'x'),
                             ('/etc/passwd', 'x'), (rows[odd][0], ''), rows[odd] * 2,
                             (rows[odd][0], '"'), (rows[odd][0], 'a\0b'), ('', 'x')])
  quote = lambda cell: f'"{cell}"' if separator in cell else cell
  name = random.choice(['captions.csv', 'captions.tsv', 'captions.txt', 'metadata.csv'])
  (source / name).write_text('\n'.join(separator.join(map(quote, row)) for row in rows) + '\n')
  return Case(f'{name}: {separator!r} {header} {rows[odd]!r:.30}',
              prepare_argv('folder', source, folder / 'out'))


def many_lines(good: Good, folder: pathlib.Path, random: Random) -> Case:
  """JSON lines of captions, damaged."""
  source = copied(good.table, folder)
  (source / 'captions.csv').unlink()
  path = source / 'metadata.jsonl'
  path.write_text(''.join(json.dumps({'file_name': p.name, 'text': f'a thing {p.stem}'}) + '\n'
                          for p in sorted(source.glob('*.png'))))
  return Case(f'metadata.jsonl: {damage_file(path, random)}',
              prepare_argv('folder', source, folder / 'out'))


KINDS = {'images': preparing('folder', 'own'), 'table': preparing('folder', 'table'),
         'tables': tables, 'lines': many_lines, 'coco': preparing('coco2014', 'coco'),
         'birds': preparing('cub', 'birds'), 'captions': captions, 'checkpoint': checkpoint,
         'run': run_folder, 'encoder': encoder, 'prepared': prepared_set, 'compare': compared,
         'config': config_file, 'settings': config_flag, 'flags': flags}

CONFIG = '''"""A config of one's own."""
from configs import demo


def get_config():
  config = demo.get_config()
  config.steps = 1
  config.batch_size = 8
  config.model.width = 4
  config.model.z_features = 16
  config.text.encoder = {encoder!r}
  config.data.loader = 'arrays'
  config.optim.g.lr = 1e-4
  config.grid = 3
  return config
'''


def good_inputs(folder: pathlib.Path, run: Callable[[Sequence[str]], tuple[int, str]]) -> Good:
  """Writes one input of each kind; `run` runs a command."""
  import coco_files
  import cub_files
  import numpy as np
  import tiny
  from PIL import Image

  random = np.random.default_rng(0)
  images = [random.integers(0, 256, (40, 32, 3), np.uint8) for _ in range(12)]
  own, table = folder / 'own', folder / 'table'
  for path in (own, table):
    path.mkdir(parents=True)
    for i, image in enumerate(images):
      Image.fromarray(image).save(path / f'{i}.png')
  Image.fromarray(images[0]).save(own / '12.jpg')
  for i in range(13):
    (own / f'{i}.txt').write_text(f'a thing, number {i}\nanother line\n')
  (table / 'captions.csv').write_text(
      'file,caption\n' + ''.join(f'{i}.png,"a thing, number {i}"\n' for i in range(12)))
  lists, parts = coco_files.small_coco()
  birds = cub_files.many(4)
  cub_files.write_images(folder / 'birds', birds)
  cub_files.write(folder / 'birds', {
      f'text/{key}.txt': f'a bird number {n}\nit sits\n'.encode() for n, key, _, _ in birds} | {
      f'{part}/filenames.pickle': cub_files.python2(
          [key.encode() for n, key, _, _ in birds if n % 2 == odd])
      for odd, part in enumerate(('test', 'train'))})
  good = Good(tiny.write_encoder(folder / 'encoder'), own, table,
              coco_files.unpacked(folder / 'coco', lists, parts), folder / 'birds',
              folder / 'prepared', folder / 'run', folder / 'mine.py')
  good.config.write_text(CONFIG.format(encoder=str(good.encoder)))
  for argv in (prepare_argv('folder', own, good.prepared),
               prepare_argv('coco2014', good.coco, folder / 'coco_out'),
               prepare_argv('cub', good.birds, folder / 'cub_out'),
               tiny.train_argv(good.run, good.encoder, steps=2, data__loader='arrays')):
    code, output = run(argv)
    if code:
      raise SystemExit(f'the good input is refused: {argv}\n{output}')
  return good
