"""What a compiled program does in one call on one device: arithmetic, memory read, arrays moved.

Read from the text of a program for CPUs or TPUs, for `collectives.py` and `tpu_program.py`: libtpu
gives nothing else before it generates code. Without loops, flops and bytes are those of XLA's
HloCostAnalysis on the CPU, whose rules these are; it counts a loop's body once.
"""
from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterator
from typing import Any

import hlo
import jax
import numpy as np

# One FLOP an element of the result. Transcendental functions are not among them, as in XLA.
_ELEMENTWISE = frozenset("""
    abs add and bitcast-convert ceil clamp compare convert count-leading-zeros divide floor imag
    is-finite maximum minimum multiply negate not or popcnt real reduce-precision remainder
    round-nearest-afz round-nearest-even select shift-left shift-right-arithmetic
    shift-right-logical sign stochastic-convert subtract xor all-reduce all-reduce-start""".split())
_NO_FLOPS = frozenset("""
    acos acosh asin asinh atan2 atanh cbrt cosh cosine erf exponential exponential-minus-one log
    log-plus-one logistic power rsqrt sine sinh sqrt tan tanh complex
    all-gather all-to-all broadcast collective-broadcast collective-permute concatenate copy
    dynamic-slice dynamic-update-slice gather pad ragged-all-to-all reduce-scatter reshape reverse
    iota rng rng-bit-generator rng-get-and-update-state slice transpose""".split())
_NO_WORK = frozenset("""
    add-dependency after-all bitcast constant domain get-tuple-element opt-barrier parameter
    partition-id replica-id tuple""".split())
_NO_WORK_TARGETS = frozenset(               # of custom-calls, all of them TPUs'
    ('AllocateBuffer', 'AssumeGatherIndicesInBound', 'GatherScatterIndicesBitpacked'))


@dataclasses.dataclass(frozen=True)
class _Cost:
  flops: int = 0
  bytes: int = 0
  unknown_loops: int = 0
  uncounted: frozenset[str] = frozenset()

  def __add__(self, other: _Cost) -> _Cost:
    return _Cost(self.flops + other.flops, self.bytes + other.bytes,
                 self.unknown_loops + other.unknown_loops, self.uncounted | other.uncounted)

  def __mul__(self, times: int) -> _Cost:
    return _Cost(self.flops * times, self.bytes * times, self.unknown_loops, self.uncounted)


def cost(compiled: jax.stages.Compiled) -> dict[str, Any]:
  """What one call of a compiled program needs on one device.

  flops: additions and multiplications, with the body of a loop as often as it runs. Comparisons,
    selections and conversions count as one per element, transcendental functions as none. None
    where the program's text cannot be read.
  bytes_accessed: what every fused kernel reads and writes; None like `flops`.
  argument_bytes, temp_bytes: memory of the arguments (of a training step: state, frozen weights
    and batch) and of everything in between. The backend reports them; missing where it does not.
  unknown_loops: how many loops were counted once because their length is not known at compile
    time; missing if there are none.
  uncounted: operations whose FLOPs are not in `flops`, for instance of other libraries; missing if
    there are none.

  Of the branches of a conditional the most expensive one counts.
  """
  counted, memory = _count(compiled), compiled.memory_analysis()
  found = {'argument_bytes': getattr(memory, 'argument_size_in_bytes', None),
           'temp_bytes': getattr(memory, 'temp_size_in_bytes', None)}
  if counted:
    found |= {'unknown_loops': counted.unknown_loops or None,
              'uncounted': sorted(counted.uncounted) or None}
  return {'flops': counted and counted.flops, 'bytes_accessed': counted and counted.bytes,
          **{k: v for k, v in found.items() if v is not None}}


def _count(compiled: jax.stages.Compiled) -> _Cost | None:
  """None where the text is missing or not of the form that `hlo` knows.

  No release of XLA promises that form, so whatever goes wrong in reading it means "unknown".
  """
  try:
    program = hlo.parse(compiled.as_text())
    return _Counter(program).computation(program.entry)
  except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
    return None


@dataclasses.dataclass(frozen=True)
class Collective:
  """One instruction that moves arrays between devices.

  shapes, dtypes, sizes: of its results on one device, the last in bytes. devices: how many take
  part in one exchange. times: how often a call of the program runs it, as far as loops' lengths are
  known. sent: bytes that a device sends in all those times, along a ring: the least there is, but
  for ragged-all-to-all, whose rows are known only when it runs, the most. op_names: where in the
  traced function each result comes from.
  The CPU's compiler has bfloat16 summed, and so moved, as float32.
  """
  kind: str
  shapes: tuple[tuple[int, ...], ...]
  dtypes: tuple[str, ...]
  sizes: tuple[int, ...]
  devices: int
  times: int
  sent: int
  op_names: tuple[str, ...]

  @property
  def bytes(self) -> int:
    return sum(self.sizes)


def collectives(compiled: jax.stages.Compiled) -> list[Collective] | None:
  """Everything that a compiled program moves between devices, instruction by instruction.

  None where the program's text cannot be read.
  """
  try:
    program = hlo.parse(compiled.as_text())
    return list(_collectives(program, program.entry, 1))
  except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
    return None


def _collectives(program: hlo.Module, name: str, times: int) -> Iterator[Collective]:
  within = program.computations[name]
  for i in within.instructions.values():
    kind = i.opcode.removesuffix('-start')
    if kind in _SENT:
      yield _collective(program, i, kind, times)
    elif i.opcode in ('while', 'call', 'fusion', 'conditional', 'async-start'):
      n = program.trips(i, within) if i.opcode == 'while' else 1
      for part in i.parts:
        yield from _collectives(program, part, times * (1 if n is None else n))


def _collective(program: hlo.Module, i: hlo.Instruction, kind: str, times: int) -> Collective:
  arrays = i.arrays
  if i.opcode.endswith('-start') and kind != 'all-reduce':   # operands, results, and contexts
    arrays = arrays[len(i.operands):2 * len(i.operands)]
  sizes, devices = tuple(a.bytes for a in arrays), _group(i, program.devices)
  return Collective(kind, tuple(a.dims for a in arrays), tuple(a.dtype for a in arrays), sizes,
                    devices, times, times * _SENT[kind](sum(sizes), devices),
                    _op_names(i.op_name, len(arrays)))


def _op_names(name: str, count: int) -> tuple[str, ...]:
  """Of every result; XLA joins the names of what it puts into one instruction: 'f/(g/add:mul)'."""
  before, _, joined = name.partition('/(')
  parts = joined.removesuffix(')').split(':')
  if len(parts) != count or count == 1:
    return count * (name,)
  return tuple(f'{before}/{part}' for part in parts)


def _group(i: hlo.Instruction, devices: int) -> int:
  """Devices of one exchange; of a permutation 1 if nothing moves."""
  if pairs := i.attribute('source_target_pairs', r'\{[^=]*\}\}'):
    found = re.findall(r'\{(\d+),(\d+)\}', pairs)
    return devices if any(a != b for a, b in found) else 1
  if listed := i.attribute('replica_groups', r'\{\{([\d,]+)\}'):
    return listed.count(',') + 1
  if grid := i.attribute('replica_groups', r'\[\d+,(\d+)\]<='):
    return int(grid)
  if mesh := i.attribute('replica_groups', r'mesh\[(.*?\] \{.*?)\}'):       # from jax 0.11 on
    sizes, axes = mesh.split('] {')
    return math.prod(int(n) for name, n in re.findall(r"('\w+')=(\d+)", sizes) if name in axes)
  return devices


# Bytes that one of n devices sends along a ring, by those of its result.
_SENT = {
    'all-gather': lambda size, n: size * (n - 1) // n,
    'all-reduce': lambda size, n: 2 * size * (n - 1) // n,
    'reduce-scatter': lambda size, n: size * (n - 1),
    'all-to-all': lambda size, n: size * (n - 1) // n,
    'ragged-all-to-all': lambda size, n: size * (n - 1) // n,
    'collective-permute': lambda size, n: size * (n > 1),
    'collective-broadcast': lambda size, n: size * (n > 1)}


class _Counter:
  """Costs of the computations of a program."""

  def __init__(self, program: hlo.Module):
    self._program = program
    self._known = {}

  def computation(self, name: str) -> _Cost:
    if name not in self._known:
      computation = self._program.computations[name]
      costs = (self._instruction(i, computation) for i in computation.instructions.values())
      self._known[name] = functools.reduce(_Cost.__add__, costs, _Cost())
    return self._known[name]

  def _instruction(self, i: hlo.Instruction, within: hlo.Computation) -> _Cost:
    if (i.opcode in _NO_WORK or i.target in _NO_WORK_TARGETS
        or i.opcode.endswith(('-done', '-update'))):
      return _Cost()
    parts = [self.computation(name) for name in i.parts]
    if i.opcode == 'while':
      n = self._program.trips(i, within)
      return (parts[0] + parts[1]) * (1 if n is None else n) + _Cost(unknown_loops=n is None)
    if i.opcode == 'conditional':
      dearest = _Cost(max(c.flops for c in parts), max(c.bytes for c in parts))
      return functools.reduce(_Cost.__add__, [c * 0 for c in parts], dearest)
    if i.opcode in ('call', 'async-start'):
      return parts[0]
    if i.opcode == 'fusion':
      fused = self._program.computations[i.parts[0]]
      return dataclasses.replace(parts[0], bytes=self._fusion_bytes(fused))
    operands = within.operands(i)
    flops = _flops(i, operands, [c.flops for c in parts])
    unknown = i.target or i.opcode
    return _Cost(flops or 0, _bytes(i, operands),
                 uncounted=frozenset({unknown} if flops is None else ()))

  def _fusion_bytes(self, fused: hlo.Computation) -> int:
    """What a fused kernel reads of its arguments, and what it writes."""
    root = fused.instructions[fused.root]
    results = fused.operands(root) if root.opcode == 'tuple' else [root]
    written = sum(fused.operands(r)[1].bytes if r.opcode == 'dynamic-update-slice' else r.bytes
                  for r in results)
    return written + sum(self._read(name, fused) for name in fused.parameters)

  def _read(self, name: str, fused: hlo.Computation) -> int:
    """Bytes that a fused kernel reads of its argument `name`: only the slices that it takes."""
    whole, once, total = fused.instructions[name].bytes, False, 0
    for user in fused.users[name]:
      if user.opcode == 'fusion':
        inner = self._program.computations[user.parts[0]]
        total += sum(self._read(inner.parameters[k], inner)
                     for k, operand in enumerate(user.operands) if operand == name)
      elif user.opcode == 'slice' or user.opcode == 'dynamic-slice' and user.operands[0] == name:
        total += user.bytes
      elif user.opcode in ('broadcast', 'reshape'):
        total += whole
      elif user.opcode == 'get-tuple-element':
        total += self._read(user.name, fused)
      elif user.opcode == 'dynamic-update-slice' and user.operands[0] == name:
        pass                                             # written in place
      elif not once:                                     # others share one reading
        once, total = True, total + whole
    return total


def _flops(i: hlo.Instruction, operands: list[hlo.Instruction], parts: list[int]) -> int | None:
  """Of one instruction; parts: of the functions that it applies. None if not known."""
  if i.opcode in _ELEMENTWISE:
    return sum(a.size for a in i.arrays)
  if i.opcode.removesuffix('-start') in _NO_FLOPS:
    return 0
  return _FLOPS[i.opcode](i, operands, *parts) if i.opcode in _FLOPS else None


def _dot(i, operands):
  contracted = re.findall(r'\d+', i.attribute('lhs_contracting_dims', r'\{([\d,]*)\}') or '')
  return 2 * i.arrays[0].size * math.prod(operands[0].arrays[0].dims[int(k)] for k in contracted)


def _convolution(i, operands):
  """Products of a convolution, those with padding left out.

  Its labels name dimensions, such as 'b01f_01io->b01f': batch, feature, space.
  """
  image, result = operands[0].arrays[0], i.arrays[0]
  labels_in, _, labels_out = re.split('_|->', i.attribute('dim_labels'))
  dims_in, dims_out = dict(zip(labels_in, image.dims)), dict(zip(labels_out, result.dims))
  groups = [int(i.attribute(f'{name}_group_count') or 1) for name in ('feature', 'batch')]
  pairs = dims_in['f'] // groups[0] * dims_out['f'] * (dims_in['b'] // groups[1])
  for k, window in enumerate(i.window):
    place = (np.arange(dims_out[str(k)])[:, None] * window['stride'] - window['low']
             + np.arange(window['size']) * window['rhs_dilate'])
    inside = (0 <= place) & (place < dims_in[str(k)] * window['lhs_dilate'])
    pairs *= int(np.sum(inside & (place % window['lhs_dilate'] == 0)))
  return 2 * pairs


def _reduce(i, operands, part):
  return part * (operands[0].arrays[0].size - i.arrays[0].size)


def _reduce_window(i, operands, part):
  return part * (math.prod(w['size'] for w in i.window) - 1) * i.arrays[0].size


def _select_and_scatter(i, operands, select, scatter):
  size = operands[1].arrays[0].size
  return size * (select * (math.prod(w['size'] for w in i.window) - 1) + scatter)


_FLOPS = {
    'dot': _dot, 'convolution': _convolution, 'reduce': _reduce, 'reduce-window': _reduce_window,
    'select-and-scatter': _select_and_scatter,
    'map': lambda i, operands, part: part * i.arrays[0].size,
    'scatter': lambda i, operands, part: part * operands[-1].arrays[0].size,
    'sort': lambda i, operands, part: (
        operands[0].arrays[0].size * (operands[0].arrays[0].size - 1).bit_length())}


def _bytes(i: hlo.Instruction, operands: list[hlo.Instruction]) -> int:
  """Read and written by an instruction that is not fused with others."""
  if i.opcode == 'slice':
    return 2 * i.bytes
  if i.opcode in ('gather', 'dynamic-slice'):
    return 2 * i.bytes + operands[1].bytes
  if i.opcode == 'dynamic-update-slice':
    return 2 * operands[1].bytes + operands[2].bytes
  if i.opcode == 'scatter':                              # operands, indices, updates
    updates = sum(o.bytes for o in operands[len(operands) // 2 + 1:])
    return 3 * updates + operands[len(operands) // 2].bytes
  if i.opcode.endswith('-start') and i.opcode != 'all-reduce-start':
    return i.bytes                                       # the result holds the operands too
  return i.bytes + sum(o.bytes for o in operands)
