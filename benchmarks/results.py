"""What the scripts that fill the docs' tables share: runs on disk, lines of JSON, Markdown."""
from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import queue
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
PROVENANCE = ('weights', 'commit', 'jax', 'device')


def known(path: pathlib.Path) -> dict[str, dict[str, Any]]:
  """The lines of a file of results by the name of their run; the last of a name counts."""
  lines = path.read_text().splitlines() if path.exists() else []
  return {line['run']: line for line in map(json.loads, lines)}


def run_missing(path: pathlib.Path, runs: Iterable[Any], prefix: str,
                execute: Callable[[Any, int], dict[str, Any]]) -> None:
  """Runs those whose `name` begins with `prefix` and is not in the file, and adds their lines.

  One run at a time on each core that this process may use. execute: (run, core) -> its line.
  """
  cores, lock, began = queue.SimpleQueue(), threading.Lock(), time.time()
  for number in sorted(os.sched_getaffinity(0)):
    cores.put(number)
  there = known(path)
  wanted = [run for run in runs if run.name.startswith(prefix) and run.name not in there]

  def one(run):
    core = cores.get()
    try:
      line = execute(run, core)
    finally:
      cores.put(core)
    with lock, path.open('a') as file:
      file.write(json.dumps(line) + '\n')
    return line

  with concurrent.futures.ThreadPoolExecutor(cores.qsize()) as pool:
    for i, line in enumerate(pool.map(one, wanted)):
      left = (time.time() - began) / (i + 1) * (len(wanted) - i - 1)
      print(f'{i + 1} of {len(wanted)}: {line["run"]}, left {left / 60:.0f} min', flush=True)


def figure(values: Sequence[float], digits: int, *, signed: bool = False) -> str:
  """Mean, with the standard deviation of several seeds; with `signed`, the mean has its sign."""
  if not values:
    return ''
  mean = f'{statistics.mean(values):{"+" if signed else ""}.{digits}f}'
  return mean if len(values) == 1 else f'{mean} ± {statistics.stdev(values):.{digits}f}'


def markdown(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
  """A table."""
  return '\n'.join(f'| {" | ".join(row)} |' for row in (head, ['---'] * len(head), *body))


def insert(page: pathlib.Path, name: str, text: str) -> None:
  """Replaces what stands in a page between `<!-- name -->` and `<!-- end of name -->`."""
  begin, end = f'<!-- {name} -->\n', f'<!-- end of {name} -->\n'
  before, found, rest = page.read_text().partition(begin)
  _, closed, after = rest.partition(end)
  if not (found and closed):
    raise SystemExit(f'{page}: the lines {begin.strip()} and {end.strip()} are missing')
  page.write_text(f'{before}{begin}\n{text}\n\n{end}{after}')
