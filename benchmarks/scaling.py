"""Training on pods, on paper: memory, step time and hours from the costs of compiled programs.

  python benchmarks/scaling.py                   # the tables of docs/scaling.md
  python benchmarks/scaling.py --lines           # the same, one JSON line a row, nothing rounded
  python benchmarks/scaling.py --compile v5e:4x4 --config configs/xmc_gan_coco256.py

The first two compute on the costs that lie in benchmarks/data/tpu_programs.jsonl. The third makes
one line of that file: libtpu compiles the step for a slice that need not be there; it needs
`pip install libtpu`, no accelerator, some GB of memory and about a minute a round, and runs
nothing. What the figures mean and what is assumed stands in docs/scaling.md.
"""
from __future__ import annotations

import argparse
import bisect
import collections
import dataclasses
import json
import pathlib
import sys
import tempfile
from typing import Any

import common
import tpu_program
import train_step

from xmc_jax.types import UserError

PROGRAMS = pathlib.Path(__file__).with_name('data') / 'tpu_programs.jsonl'

# Assumed, not measured: which part of a peak a step gets, and what starting an exchange costs.
COMPUTE, MEMORY, LINKS, START = 0.4, 0.7, 0.7, 20e-6
# Measured, examples a second and core: JPEG of 256 px with margin, tf_data, an AMD EPYC core.
ROWS_PER_CORE = 1_230
BATCH, ROUNDS, EPOCHS, PX = 256, 2, 500, 256


@dataclasses.dataclass(frozen=True)
class Chip:
  """Public figures of one chip: FLOP/s of dense bfloat16 products, bytes of memory that a program
  may use, bytes/s of that memory, bytes/s that it sends to the others (one way, all links)."""
  flops: float
  memory: float
  bandwidth: float
  link: float


# docs.cloud.google.com/tpu/docs, v4 to v6e; data sheets of H100 and H200 SXM. v4's links: the
# all-reduce bandwidth of a pod, 1.1 PB/s, by its 4,096 chips; the others: half of both ways. Of a
# GPU's memory JAX takes 75 %; of a TPU's the compiler keeps 0.25 GiB for itself.
CHIPS = {
    'v4': Chip(train_step.PEAK['TPU v4'], 31.75 * 2**30, 1200e9, 268e9),
    'v5e': Chip(train_step.PEAK['TPU v5e'], 15.75 * 2**30, 819e9, 200e9),
    'v6e': Chip(train_step.PEAK['TPU v6e'], 31.25 * 2**30, 1638e9, 400e9),
    'v5p': Chip(train_step.PEAK['TPU v5p'], 94.75 * 2**30, 2765e9, 600e9),
    'H100': Chip(train_step.PEAK['NVIDIA H100 80GB HBM3'], 0.75 * 80e9, 3350e9, 450e9),
    'H200': Chip(train_step.PEAK['NVIDIA H200'], 0.75 * 141e9, 4800e9, 450e9)}


@dataclasses.dataclass(frozen=True)
class Slice:
  """What one rents: `chips` of a kind, on `hosts`."""
  name: str
  chip: Chip
  chips: int
  hosts: int


SLICES = (
    Slice('TPU v4-32', CHIPS['v4'], 16, 4),
    Slice('TPU v5litepod-16', CHIPS['v5e'], 16, 4),
    Slice('TPU v5litepod-64', CHIPS['v5e'], 64, 16),
    Slice('TPU v5litepod-256', CHIPS['v5e'], 256, 64),
    Slice('TPU v6e-16', CHIPS['v6e'], 16, 4),
    Slice('TPU v5p-32', CHIPS['v5p'], 16, 4),
    Slice('1 x H100', CHIPS['H100'], 1, 1),
    Slice('1 x H200', CHIPS['H200'], 1, 1),
    Slice('8 x H100', CHIPS['H100'], 8, 1),
    Slice('8 x H200', CHIPS['H200'], 8, 1))


@dataclasses.dataclass(frozen=True)
class Run:
  """Training on `images` with captions of `length` word pieces."""
  name: str
  images: int
  length: int

  @property
  def steps(self) -> int:
    return EPOCHS * self.images // (ROUNDS * BATCH)


RUNS = (Run('MS-COCO-14', 82_783, 17), Run('LN-COCO', 134_272, 64),
        Run('LN-OpenImages', 507_444, 64))


def read(path: pathlib.Path = PROGRAMS) -> list[dict[str, Any]]:
  """The stored programs, as `compiled` makes them."""
  return [json.loads(line) for line in path.read_text().splitlines()]


def plain(program: dict[str, Any]) -> bool:
  """Whether nothing was traded for memory."""
  return (program['remat'], program['microbatches'], program['shard']) == (
      'nothing', 1, 'nothing')


def total(rounds: list[dict[str, Any]], key: str) -> float:
  """Of a step: memory is that of its largest round, all else adds."""
  if key == 'sent':
    return sum(sum(r['sent'].values()) for r in rounds)
  return (max if key in ('argument_bytes', 'temp_bytes') else sum)(r[key] for r in rounds)


class Line:
  """A quantity of a device's step by its rows: straight between compiled programs, and beyond.

  To a single program leads what `like` says of as many rows, and in proportion what it has more.
  """

  def __init__(self, programs: list[dict[str, Any]], key: str, like: Line | None = None):
    points = sorted((p['rows'] / p['chips'], total(p['rounds'], key)) for p in programs)
    self._rows, self._values = zip(*points)
    self._like = like

  def __call__(self, rows: float) -> float:
    if len(self._rows) == 1:
      most, value = self._rows[0], self._values[0]
      of = self._like or (lambda _: 0.0)
      return of(rows) + (value - of(most)) * rows / most
    k = min(max(bisect.bisect_left(self._rows, rows), 1), len(self._rows) - 1)
    (a, b), (at_a, at_b) = self._rows[k - 1:k + 1], self._values[k - 1:k + 1]
    return at_a + (at_b - at_a) * (rows - a) / (b - a)


@dataclasses.dataclass(frozen=True)
class Saving:
  """A way to less memory: the networks see 1 / `parts` of the rows at a time; and what multiplies
  their temporary memory, the FLOPs, the traffic with memory and what is sent."""
  name: str
  parts: int = 1
  temp: float = 1.0
  flops: float = 1.0
  traffic: float = 1.0
  sent: float = 1.0


class Model:
  """The costs of one device's step of BATCH rows in all, by the rows that it has."""

  def __init__(self, programs: list[dict[str, Any]], px: int = PX):
    own = [p for p in programs if p['px'] == px and p['rows'] == BATCH]
    self.of = {length: [p for p in own if plain(p) and p['length'] == length]
               for length in sorted({p['length'] for p in own})}
    self.savings = [Saving('-'), *sorted(
        (s for p in own if p['shard'] == 'nothing' and not plain(p) for s in self._saving(p)),
        key=lambda s: (s.parts, s.flops))]

  def _saving(self, p: dict[str, Any]) -> list[Saving]:
    """What `p` shows beside its plain twin, of the rounds that it has: the last one at least, which
    is the largest. More parts cost what two cost: every forward pass twice."""
    twin = next(q for q in self.of[p['length']] if q['chips'] == p['chips'])
    both = p['rounds'], twin['rounds'][-len(p['rounds']):]
    temp, *others = (total(both[0], key) / total(both[1], key)
                     for key in ('temp_bytes', 'flops', 'bytes_accessed', 'sent'))
    if p['microbatches'] == 1:
      return [Saving(f"remat={p['remat']}", 1, temp, *others)]
    line, rows = self.line(p['length'], 'temp_bytes'), p['rows'] / p['chips']
    temp *= line(rows) / line(rows / p['microbatches'])
    return [Saving(f'microbatches={n}', n, temp, *others) for n in (2, 4, 8, 16, 32)]

  def line(self, length: int, key: str) -> Line:
    most = max(self.of.values(), key=len)
    return Line(self.of[length], key, Line(most, key))

  def sent(self, length: int, chips: int) -> dict[str, float]:
    """Bytes that a device sends in a step along a ring, by what for."""
    p = self.of[length][0]
    scale = (1 - 1 / chips) / (1 - 1 / p['chips'])
    found = collections.Counter()
    for r in p['rounds']:
      found.update(r['sent'])
    return {why: size * scale for why, size in found.items()}

  def exchanges(self, length: int, chips: int) -> float:
    return total(self.of[length][0]['rounds'], 'exchanges') if chips > 1 else 0


def estimate(model: Model, where: Slice, run: Run) -> dict[str, Any]:
  """One row of the tables, in bytes, seconds, FLOPs and rows; `saving` is None if nothing fits."""
  chip, rows = where.chip, BATCH / where.chips
  line = {key: model.line(run.length, key) for key in (
      'flops', 'bytes_accessed', 'argument_bytes', 'temp_bytes')}
  given = line['argument_bytes'](rows)
  need = lambda s: given + s.temp * line['temp_bytes'](rows / s.parts)
  fit = next((s for s in model.savings if rows >= s.parts and need(s) <= chip.memory), None)
  facts = {'slice': where.name, 'run': run.name, 'chips': where.chips, 'rows': rows,
           'need': need(fit or model.savings[0]), 'memory': chip.memory,
           'saving': fit and fit.name}
  if fit is None:
    return facts
  flops, traffic = fit.flops * line['flops'](rows), fit.traffic * line['bytes_accessed'](rows)
  sent = fit.sent * sum(model.sent(run.length, where.chips).values())
  compute, memory = flops / (COMPUTE * chip.flops), traffic / (MEMORY * chip.bandwidth)
  links = sent / (LINKS * chip.link) + START * model.exchanges(run.length, where.chips)
  step = max(compute, memory) + links
  host = ROUNDS * BATCH / step / where.hosts
  return facts | {
      'flops': flops, 'traffic': traffic, 'sent': sent, 'compute': compute, 'reading': memory,
      'links': links, 'step': step, 'host_rows': host, 'host_cores': host / ROWS_PER_CORE,
      'steps': run.steps, 'hours': run.steps * step / 3600,
      'mfu': flops / step / chip.flops}


HEAD = ('on', 'rows a chip', 'with', 'GB a chip', 'TFLOP', 'GB read', 'MB sent',
        'compute ms', 'memory ms', 'links ms', 'step ms', 'rows/s a host', 'cores a host')


def table(model: Model, runs: list[Run]) -> list[str]:
  """Markdown lines of the slices, for runs with captions of one length."""
  lines = ['| ' + ' | '.join((*HEAD, *(f'h {run.name}' for run in runs))) + ' |']
  lines.append('|---' * (len(HEAD) + len(runs)) + '|')
  for where in SLICES:
    rows = [estimate(model, where, run) for run in runs]
    lines.append('| ' + ' | '.join([*_cells(rows[0]), *(
        f"{r['hours']:,.1f}" if r['saving'] else '' for r in rows)]) + ' |')
  return lines


def _cells(r: dict[str, Any]) -> list[str]:
  first = [r['slice'], f"{r['rows']:g}", r['saving'] or 'does not fit',
           f"{r['need'] / 1e9:.1f} of {r['memory'] / 1e9:.1f}"]
  if not r['saving']:
    return first + [''] * (len(HEAD) - len(first))
  ms = lambda key: f'{1e3 * r[key]:,.0f}'
  return [*first, f"{r['flops'] / 1e12:.2f}", f"{r['traffic'] / 1e9:,.0f}",
          f"{r['sent'] / 1e6:,.0f}", ms('compute'), ms('reading'), ms('links'), ms('step'),
          f"{r['host_rows']:,.0f}", f"{r['host_cores']:.1f}"]


def tables(model: Model) -> str:
  """Of every length of captions that programs were compiled with."""
  by_length = {n: [run for run in RUNS if run.length == n] for n in model.of}
  return '\n\n'.join('\n'.join(table(model, runs)) for runs in by_length.values() if runs)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--lines', action='store_true', help='JSON lines instead of tables')
  parser.add_argument('--compile', metavar='TOPOLOGY', help='of a TPU slice, such as v5e:4x4')
  parser.add_argument('--rounds', default='01', help='of the step; 1, the larger, tells memory')
  parser.add_argument('--round', type=int, help=argparse.SUPPRESS)
  if any(argument.startswith('--compile') for argument in sys.argv[1:]):
    args, config = common.parse(parser)
    try:
      if args.round is not None:
        tpu_program.compile_round(args.compile, config, args.round)
        return
      with tempfile.TemporaryDirectory() as base:
        folders = [pathlib.Path(base, n) for n in args.rounds]
        for n, folder in zip(args.rounds, folders):
          tpu_program.dump(sys.argv, int(n), folder)
        common.show(tpu_program.facts(config, args.compile, folders))
    except UserError as error:
      parser.error(str(error))
    return
  args, model = parser.parse_args(), Model(read())
  if not args.lines:
    print(tables(model))
    return
  for run in RUNS:
    for where in SLICES:
      common.show(estimate(model, where, run))


if __name__ == '__main__':
  main()
