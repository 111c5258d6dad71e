"""Runs `xmc` on malformed inputs: no traceback, no hang, a refusal is one sentence and code 2.

  python tools/fuzz.py --cases 500 [--seed 0] [--kinds images,flags] [--keep FOLDER]

Each case takes a good input, damages one file of it (or one flag), and runs one command on it. A
case passes if the command ends within three minutes with code 0, or with code 2 and one line on
stderr that begins with `xmc`. A sample from a damaged run must also be the same image as before, or
be refused. What was accepted is listed at the end, to be read by a person.

The commands run in a process of their own, one after the other, so that the packages are imported
once. Needs the packages of the extra `test`.
"""
from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import io
import json
import os
import pathlib
import pickle
import random
import selectors
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / 'tests'), str(ROOT / 'tests' / 'prepare'), str(ROOT)]
SECONDS = 180
Random = random.Random


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


# Damage of bytes, of JSON and of tables.


def damaged_bytes(data: bytes, random: Random) -> tuple[str, bytes]:
  """(what was done, the bytes after it)."""
  at = random.randrange(max(len(data), 1))
  bit = bytes([data[at] ^ 1 << random.randrange(8)]) if data else b''
  return random.choice([
      ('cut', data[:at]), ('emptied', b''), ('bit flipped', data[:at] + bit + data[at + 1:]),
      ('zeroed', data[:at] + bytes(min(64, len(data) - at)) + data[at + 64:]),
      ('all zero', bytes(len(data))), ('a web page', b'<!DOCTYPE html><html>404</html>\n'),
      ('noise', random.randbytes(200)), ('doubled', data + data), ('longer', data + b'\0' * 9),
      ('a git-lfs pointer', b'version https://git-lfs.github.com/spec/v1\noid sha256:'
                            + b'0' * 64 + b'\nsize 12345\n')])


def damaged_text(data: bytes, random: Random) -> tuple[str, bytes]:
  lines = data.splitlines(keepends=True)
  at = random.randrange(max(len(lines), 1))
  return random.choice([
      damaged_bytes(data, random), ('byte order mark', b'\xef\xbb\xbf' + data),
      ('UTF-16', data.decode(errors='replace').encode('utf-16')),
      ('Latin-1', 'é ü ß ñ'.encode('latin-1') + data), ('CRLF', data.replace(b'\n', b'\r\n')),
      ('NUL inside', data[:at] + b'\0' + data[at:]), ('a line twice', b''.join(lines + lines[at:])),
      ('a line missing', b''.join(lines[:at] + lines[at + 1:])),
      ('a long line', data + b'word ' * 50_000 + b'\n'), ('blank lines', data + b'\n\n \n'),
      ('an open quote', b'"' + data), ('other separator', data.replace(b',', b';')),
      ('lines reversed', b''.join(reversed(lines))),
      ('line separators', '\u2028\u0085'.encode() + data)])


VALUES = (None, True, -1, 0, 10 ** 30, 1.5, float('nan'), float('inf'), '', 'x', '../../x', '\0',
          [], {}, [None], [[[]]], {'a': {}}, 'ü' * 300)


def damaged_lines(data: bytes, random: Random) -> tuple[str, bytes]:
  return damaged_json(data, random, [json.loads(line) for line in data.splitlines()])


def damaged_json(data: bytes, random: Random, rows: list | None = None) -> tuple[str, bytes]:
  """One value replaced or removed, somewhere; or damage of the text itself."""
  if random.random() < 0.3:
    return damaged_text(data, random)
  tree = rows if rows is not None else json.loads(data)
  places = []

  def walk(node):
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
      places.append((node, key))
      if isinstance(value, (dict, list)) and value and len(places) < 10_000:
        walk(value)
  walk([tree] if not isinstance(tree, (dict, list)) else tree)
  if not places:
    return damaged_text(data, random)
  node, key = random.choice(places)
  if random.random() < 0.3:
    what = f'{key!r} removed'
    del node[key]
  else:
    value = random.choice(VALUES)
    what = f'{key!r} = {value!r:.20}'
    node[key] = value
  text = '\n'.join(map(json.dumps, rows)) + '\n' if rows is not None else json.dumps(tree)
  return what, text.encode()


def damage_file(path: pathlib.Path, random: Random) -> str:
  """Damages a file in the way of its format, or puts something else in its place."""
  if random.random() < 0.08:
    path.unlink()
    return random.choice([
        lambda: 'missing', lambda: path.mkdir() or 'a folder',
        lambda: path.symlink_to('nowhere') or 'a broken link', lambda: os.mkfifo(path) or 'a FIFO',
        lambda: path.symlink_to(path.parent) or 'a link to its folder'])()
  by_format = {'.json': damaged_json, '.jsonl': damaged_lines, '.txt': damaged_text,
               '.csv': damaged_text, '.py': damaged_text}
  what, data = by_format.get(path.suffix, damaged_bytes)(path.read_bytes(), random)
  path.write_bytes(data)
  return what


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
  key, _ = random.choice(sorted(_flat(files.load(str(tiny.DEMO)).to_dict()), key=lambda x: x[0]))
  value = random.choice(('', '-1', '0', 'nan', 'inf', '-inf', 'x', '[]', '()', '1e400', 'None',
                         '9' * 30, '../..', 'True', '0.5', '{', '"', '1,2', "('a',)", '\ud7ff'))
  return Case(f'{key}={value}', [*tiny.train_argv(folder / 'run', good.encoder, steps=1,
                                                  data__loader='arrays'),
                                 f'--config.{key}={value}'])


def _flat(tree: dict, before: str = '') -> list[tuple[str, object]]:
  return [pair for key, value in tree.items() for pair in (
      _flat(value, f'{before}{key}.') if isinstance(value, dict) and value
      else [(before + key, value)])]


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


# Running commands.


class Worker:
  """A process that runs one command after the other; a new one after a hang or a crash."""

  def __init__(self) -> None:
    self._process: subprocess.Popen | None = None

  def __call__(self, argv: Sequence[str]) -> tuple[int, str]:
    """(code, stderr); code -1 for a hang, -2 for a crash."""
    if self._process is None or self._process.poll() is not None:
      light = {'JAX_DISABLE_MOST_OPTIMIZATIONS': '1', 'JAX_PLATFORMS': 'cpu',
               'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
      self._process = subprocess.Popen(
          [sys.executable, __file__, '--worker'], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
          env=os.environ | light, cwd=ROOT)
    process = self._process
    pickle.dump(list(argv), process.stdin)
    process.stdin.flush()
    with selectors.DefaultSelector() as selector:
      selector.register(process.stdout, selectors.EVENT_READ)
      if not selector.select(SECONDS * 2):
        self.close()
        return -1, f'no end within {SECONDS * 2} seconds'
    line = process.stdout.readline()
    if not line:
      process.wait()
      return -2, f'the process ended with code {process.returncode}'
    code, error = json.loads(line)
    return code, error

  def close(self) -> None:
    if self._process is not None:
      self._process.kill()
      self._process.wait()
      self._process = None


def work() -> None:
  """Runs the commands that come on stdin and writes (code, stderr) of each to stdout."""
  import signal

  from xmc_jax.cli.main import main
  answers = os.fdopen(os.dup(1), 'w')

  def stop(*_):
    raise TimeoutError(f'no end within {SECONDS} seconds')
  signal.signal(signal.SIGALRM, stop)
  while True:
    try:
      argv = pickle.load(sys.stdin.buffer)
    except EOFError:
      return
    with tempfile.TemporaryFile('w+', errors='replace') as error, open(os.devnull, 'w') as nothing:
      os.dup2(nothing.fileno(), 1)
      kept = os.dup(2)
      os.dup2(error.fileno(), 2)
      code = -1
      try:
        with contextlib.redirect_stderr(io.TextIOWrapper(os.fdopen(os.dup(2), 'wb', 0),
                                                         write_through=True)):
          signal.alarm(SECONDS)
          try:
            code = main(argv)
          except BaseException:                   # what a user would see as a traceback
            import traceback
            traceback.print_exc()
          finally:
            signal.alarm(0)
      finally:
        os.dup2(kept, 2)
        os.close(kept)
      error.seek(0)
      print(json.dumps([code, error.read()]), file=answers, flush=True)


def verdict(case: Case, code: int, error: str, expected: str) -> str:
  """'' if all is well, else what is wrong."""
  if code not in (0, 2):
    return f'code {code}'
  if 'Traceback' in error:
    return 'traceback'
  if code == 2 and not (error.startswith('xmc') and error.strip().count('\n') == 0):
    return 'no single sentence'
  if code == 0 and case.image is not None and digest(case.image) != expected:
    return 'another image'
  return ''


def digest(path: pathlib.Path) -> str:
  return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else 'none'


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--cases', type=int, default=500)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--kinds', default=','.join(KINDS), type=lambda text: text.split(','))
  parser.add_argument('--keep', type=pathlib.Path, help='keep the inputs of failures here')
  parser.add_argument('--worker', action='store_true', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.worker:
    work()
    return 0
  folder = pathlib.Path(tempfile.mkdtemp(prefix='fuzz_'))
  failures, accepted, refused = run(folder, args.cases, args.seed, args.kinds, args.keep)
  print('\naccepted:\n  ' + '\n  '.join(accepted))
  print(f'\n{args.cases} cases: {sum(refused.values())} refused, {len(accepted)} accepted, '
        f'{failures} wrong')
  shutil.rmtree(folder)
  return int(failures > 0)


def run(folder: pathlib.Path, cases: int, seed: int, kinds: Sequence[str],
        keep: pathlib.Path | None = None) -> tuple[int, list[str], collections.Counter]:
  """(number of failures, names of accepted cases, refusals by kind)."""
  worker = Worker()
  good = good_inputs(folder / 'good', worker)
  control = Case('control', sample_argv(good.run, folder, '--caption=a red apple'),
                 folder / 'out' / '000_a_red_apple_0.png')
  assert worker(control.argv)[0] == 0
  expected = digest(control.image)
  failures, accepted, refused = 0, [], collections.Counter()
  for i in range(cases):
    kind = kinds[i % len(kinds)]
    place = folder / 'case'
    place.mkdir()
    case = KINDS[kind](good, place, Random(f'{seed} {kind} {i}'))
    code, error = worker(case.argv)
    wrong = verdict(case, code, error, expected)
    if wrong:
      failures += 1
      print(f'{i} {kind}: {case.name}\n  WRONG, {wrong}: {error.strip()[-1500:]}\n'
            f'  {" ".join(case.argv)}', flush=True)
      if keep:
        shutil.copytree(place, keep / str(i), symlinks=True, ignore=_fifos)
    elif code:
      refused[kind] += 1
      print(f'{i} {kind}: {case.name}\n  {error.strip()}', flush=True)
    else:
      accepted.append(f'{i} {kind}: {case.name}')
    shutil.rmtree(place)
  worker.close()
  return failures, accepted, refused


def _fifos(folder: str, names: list[str]) -> list[str]:
  return [name for name in names if pathlib.Path(folder, name).is_fifo()]


if __name__ == '__main__':
  sys.exit(main())
