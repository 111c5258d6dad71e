"""What the scripts that fill the docs' tables share: runs on disk, lines of JSON, Markdown."""
from __future__ import annotations

import json
import pathlib
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
PROVENANCE = ('weights', 'commit', 'jax', 'device')


def known(path: pathlib.Path) -> dict[str, dict[str, Any]]:
  """The lines of a file of results by the name of their run; the last of a name counts."""
  lines = path.read_text().splitlines() if path.exists() else []
  return {line['run']: line for line in map(json.loads, lines)}


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
