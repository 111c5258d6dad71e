"""Damages every file of a checkpoint, and those beside it, and draws and resumes each time.

  python tools/bit_flips.py --flips 5 --zeros 3

A tiny run is trained for three steps, each with its checkpoint, and evaluated. Then each file of
the newest checkpoint, the run's config.json, metrics.jsonl and scores.jsonl, and each file of the
text encoder is damaged: one bit is flipped at random places, 64 bytes are zeroed at random places,
the file is cut, and it is removed. After each damage a picture is drawn from that checkpoint, and
the training is resumed for one step. The damage is found if the command refuses with a sentence, or
says that it takes an older checkpoint or another setting; it is harmless if all that was loaded or
trained equals that of the undamaged run to the bit. Anything else is silent, and fails.

Both uses run in this process, by the functions of `xmc sample` and `xmc train`, so that the step is
compiled once. metrics.jsonl and scores.jsonl are records without checksums: only what they do to a
picture or to the training is tried, not whether a changed digit in them is noticed.

Needs the packages of the extra `test`.
"""
from __future__ import annotations

import argparse
import collections
import contextlib
import io
import os
import pathlib
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('JAX_NUM_CPU_DEVICES', '1')
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / 'tests'), str(ROOT)]
STEP = 3                            # of the checkpoint that is damaged
CAPTION = 'a red apple'
REFUSED, OLDER, TOLD, HARMLESS, SILENT, TRACEBACK = VERDICTS = (
    'refused', 'older, told', 'change told', 'harmless', 'SILENT', 'TRACEBACK')


def damages(data: bytes, flips: int, zeros: int, random: Random
            ) -> Iterator[tuple[str, bytes | None]]:
  """(what was done, the bytes after it; None: no file), never the same bytes as before."""
  for _ in range(flips if data else 0):
    at, bit = random.randrange(len(data)), random.randrange(8)
    yield f'bit {bit} of byte {at}', data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1:]
  for _ in range(zeros if data else 0):
    at = random.randrange(max(len(data) - 64, 1))
    end = min(at + 64, len(data))
    if any(data[at:end]):
      yield f'bytes {at} to {end} are 0', data[:at] + bytes(end - at) + data[end:]
  if data:
    at = random.randrange(len(data))
    yield f'cut to {at} bytes', data[:at]
  yield 'removed', None


def kind(name: str) -> str:
  """The name of a file without what differs between runs: steps and hashes."""
  return re.sub(r'[0-9a-f]{32}', '*', re.sub(r'checkpoints/\d+/', '', name))


def attempt(use: Callable[[], Any]) -> tuple[str | None, Any, str]:
  """(verdict, or None if it must be judged by the result; the result; all that was said)."""
  from xmc_jax.types import UserError
  from xmc_jax.utils import disk
  said = io.StringIO()
  try:
    with (contextlib.redirect_stdout(said), contextlib.redirect_stderr(said),
          disk.errors_told()):
      result = use()
  except UserError as error:
    return REFUSED, None, str(error)
  except Exception:
    return TRACEBACK, None, traceback.format_exc()
  return None, result, said.getvalue()


def verdict(found: Any, expected: Any, said: str) -> str:
  """Of a use that was not refused."""
  if found == expected and ' is damaged ' in said:
    return OLDER
  # The steps change each time, as one more is asked for.
  if re.search(r'^(?!config\.steps ).* changed from ', said, re.M):
    return TOLD
  return HARMLESS if found == expected else SILENT


def drawn(run: pathlib.Path) -> Any:
  """All that `xmc sample` loads, and the picture that it draws."""
  import jax
  import numpy as np

  from xmc_jax.sampling import TextToImage
  model = TextToImage.load(run, step=STEP)
  leaves = jax.tree_util.tree_leaves_with_path(model.tree)
  return ({jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves},
          model.tokenizer.text(), model.generate([CAPTION], seed=1).tobytes())


def resumed(run: pathlib.Path) -> Any:
  """The state after one more step of `xmc train --workdir RUN`."""
  import tiny

  from xmc_jax.cli import config_file
  from xmc_jax.trainer import train
  train(config_file.load_saved(str(run), [f'--config.steps={STEP + 1}']), run)
  return tiny.saved_state(run, STEP + 1)


def compile_once() -> None:
  """Lets all runs of this process share one compiled step, as all have the same program."""
  from xmc_jax import trainer
  compile_step, found = trainer._compile, []

  def compiled(*args):
    found[:] = found or [compile_step(*args)]
    return found[0]
  trainer._compile = compiled


def good(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
  """(a trained run, its text encoder)"""
  import tiny

  from xmc_jax.cli.main import main as xmc
  run, encoder = folder / 'run', tiny.write_encoder(folder / 'encoder')
  for argv in (tiny.train_argv(run, encoder, steps=STEP, every__save=1, data__loader='arrays'),
               ['xmc', 'evaluate', f'--workdir={run}', '--protocol=offline', '--fakes=16',
                '--random_weights=0']):
    if code := xmc(argv):
      raise SystemExit(f'{" ".join(argv)} ended with code {code}')
  return run, encoder


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--flips', type=int, default=5, help='per file; default: 5')
  parser.add_argument('--zeros', type=int, default=3, help='per file; default: 3')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--only', default='', help='files whose names contain this')
  args = parser.parse_args()
  random, folder = Random(args.seed), pathlib.Path(tempfile.mkdtemp(prefix='bit_flips_'))
  compile_once()
  whole, encoder = good(folder)
  run = folder / 'copy'

  def fresh() -> pathlib.Path:
    shutil.rmtree(run, ignore_errors=True)
    return pathlib.Path(shutil.copytree(whole, run))

  uses = {'drawing': drawn, 'resuming': resumed}
  expected = {name: use(fresh()) for name, use in uses.items()}
  checkpoint = whole / 'checkpoints' / str(STEP)
  files = [*sorted(path for path in checkpoint.rglob('*') if path.is_file()),
           *(whole / name for name in ('config.json', 'metrics.jsonl', 'scores.jsonl')),
           *sorted(encoder.iterdir())]
  table: dict[tuple[str, str], collections.Counter[str]] = collections.defaultdict(
      collections.Counter)
  n = failed = 0
  for path in files:
    name = path.relative_to(folder).as_posix()
    if args.only not in name:
      continue
    data = path.read_bytes()
    for what, bytes_after in damages(data, args.flips, args.zeros, random):
      n += 1
      for use, call in uses.items():
        fresh()
        damaged = path if encoder in path.parents else run / path.relative_to(whole)
        if bytes_after is None:
          damaged.unlink()
        else:
          damaged.write_bytes(bytes_after)
        ended, result, said = attempt(lambda call=call: call(run))
        path.write_bytes(data)
        ended = ended or verdict(result, expected[use], said)
        table[kind(name), use][ended] += 1
        failed += ended in (SILENT, TRACEBACK)
        print(f'{name}, {what}, {use}: {ended}'
              f'{"" if ended == HARMLESS else ": " + " ".join(said.split())[-300:]}', flush=True)

  width = max(len(name) for name, _ in table)
  print(f'\n{"file":{width}} {"use":9}{"".join(f"{v:>13}" for v in VERDICTS)}')
  for (name, use), counts in table.items():
    print(f'{name:{width}} {use:9}{"".join(f"{counts[v] or chr(46):>13}" for v in VERDICTS)}')
  print(f'{n} damages in {len({name for name, _ in table})} kinds of files, each tried by '
        f'{" and ".join(uses)}; {failed} silent or with a traceback')
  shutil.rmtree(folder, ignore_errors=True)
  return int(failed > 0)


if __name__ == '__main__':
  sys.exit(main())
