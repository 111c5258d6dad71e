"""The text of a compiled program (HLO) as computations of instructions.

The text is the one thing that every backend gives out, with the loops' trip counts and with what
was fused, called and moved; its grammar is in openxla.org/xla/operation_semantics.
"""
from __future__ import annotations

import dataclasses
import functools
import math
import re

_HEADER = re.compile(r'^(ENTRY )?%?([\w.\-]+) .*\{$')
_NAME = re.compile(r'^  (ROOT )?%?([\w.\-]+) = ')
_OPCODE = re.compile(r' ?([a-z][\w\-]*)\(')
_ARRAY = re.compile(r'\b([a-z]+\d*\w*)\[([\d,<=]*)\]')
_PARTS = re.compile(r'\b(?:body|condition|calls|to_apply|branch_computations|true_computation|'
                    r'false_computation|select|scatter)=(?:\{([^}]*)\}|%?([\w.\-]+))')
_METADATA = re.compile(r'metadata=\{(?:[^{}"]|"(?:[^"\\]|\\.)*")*\}')
_OP_NAME = re.compile(r'op_name="((?:[^"\\]|\\.)*)"')


@dataclasses.dataclass(frozen=True)
class Array:
  """Type of an array: 'f32', (2, 3)."""
  dtype: str
  dims: tuple[int, ...]

  @property
  def size(self) -> int:
    return math.prod(self.dims)

  @property
  def bytes(self) -> int:
    """Without padding; tokens and the like have none."""
    bits = re.search(r'\d+', self.dtype)
    width = int(bits[0]) if bits else {'pred': 8}.get(self.dtype, 0)
    return -(-self.size * width // 8)


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a computation.

  arrays: types of the result, a tuple's one after the other. operands: names of instructions of
  the same computation. op_name: where in the traced function it comes from. attributes: what
  follows the operands, as text.
  """
  name: str
  opcode: str
  arrays: tuple[Array, ...]
  operands: tuple[str, ...]
  argument: str
  attributes: str
  op_name: str

  @property
  def bytes(self) -> int:
    return sum(array.bytes for array in self.arrays)

  def attribute(self, name: str, pattern: str = r'[^,\s]+') -> str | None:
    """The text after `name=` that `pattern` describes, of its first group if it has one."""
    found = re.search(rf'\b{name}=({pattern})', self.attributes)
    return found and found[found.re.groups]

  @functools.cached_property
  def parts(self) -> list[str]:
    """Names of the computations that it runs; of a loop condition and body."""
    return [name for many, one in _PARTS.findall(self.attributes)
            for name in re.findall(r'[\w.\-]+', many or one)]

  @property
  def target(self) -> str:
    """The library's function that a `custom-call` calls; of other instructions ''."""
    return self.attribute('custom_call_target', '"([^"]*)"') or ''

  @property
  def window(self) -> list[dict[str, int]]:
    """Of every dimension: size, stride, padding below, dilation of kernel and of image."""
    text = self.attribute('window', r'\{([^}]*)\}') or ''
    found = {name: values.split('x') for name, values in re.findall(r'(\w+)=([\w\-]+)', text)}
    count = len(found.get('size', ()))
    one = lambda name, k: int(found.get(name, ['1'] * count)[k])
    return [{'low': int(found['pad'][k].split('_')[0]) if 'pad' in found else 0,
             **{name: one(name, k) for name in ('size', 'stride', 'rhs_dilate', 'lhs_dilate')}}
            for k in range(count)]


@dataclasses.dataclass(frozen=True)
class Computation:
  """Instructions by name, in order; root: name of the one whose value it returns."""
  instructions: dict[str, Instruction]
  root: str

  @functools.cached_property
  def users(self) -> dict[str, list[Instruction]]:
    users = {name: [] for name in self.instructions}
    for instruction in self.instructions.values():
      for name in dict.fromkeys(instruction.operands):
        users[name].append(instruction)
    return users

  @functools.cached_property
  def parameters(self) -> list[str]:
    """Names by position."""
    found = [i for i in self.instructions.values() if i.opcode == 'parameter']
    return [i.name for i in sorted(found, key=lambda i: int(i.argument))]

  def operands(self, instruction: Instruction) -> list[Instruction]:
    return [self.instructions[name] for name in instruction.operands]


@dataclasses.dataclass(frozen=True)
class Module:
  """A program; devices: among how many it runs."""
  computations: dict[str, Computation]
  entry: str
  devices: int

  def trips(self, loop: Instruction, within: Computation) -> int | None:
    """How often a `while` runs its body, if that is known at compile time.

    CPUs and GPUs write it down. For TPUs it follows from the loop, if it counts from a constant to
    a constant: `init` at its beginning, `step` more each turn, while below `bound`.
    """
    if found := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes):
      return int(found[1])
    scope = lambda name: _Scope(self, self.computations[name], ())
    condition, body = scope(loop.attribute('condition', r'%?([\w.\-]+)')), scope(
        loop.attribute('body', r'%?([\w.\-]+)'))
    limit = condition.limit(condition.computation.root)
    begin = within.instructions[loop.operands[0]]
    if limit is None or begin.opcode != 'tuple':
      return None
    k, bound = limit
    init = _Scope(self, within, ()).linear(begin.operands[k])
    turn = body.computation.instructions[body.computation.root]
    step = body.linear(turn.operands[k]) if turn.opcode == 'tuple' else None
    if init is None or init[0] is not None or step is None or step[0] != k or step[1] <= 0:
      return None
    return max(0, -((init[1] - bound) // step[1]))


@dataclasses.dataclass(frozen=True)
class _Scope:
  """A computation where it is called: `arguments` are its parameters' (scope, name), if fused."""
  module: Module
  computation: Computation
  arguments: tuple[tuple[_Scope, str], ...]

  def inside(self, fusion: Instruction) -> _Scope:
    return _Scope(self.module, self.module.computations[fusion.parts[0]],
                  tuple((self, name) for name in fusion.operands))

  def linear(self, name: str) -> tuple[int | None, int] | None:
    """An integer as the k-th number that a loop carries, plus n: (k, n); constants are (None, n).

    None for everything else.
    """
    i = self.computation.instructions[name]
    if i.opcode == 'constant':
      return (None, int(i.argument)) if re.fullmatch(r'-?\d+', i.argument) else None
    if i.opcode in ('copy', 'copy-start', 'copy-done', 'bitcast'):
      return self.linear(i.operands[0])
    if i.opcode == 'fusion':
      inner = self.inside(i)
      return inner.linear(inner.computation.root)
    if i.opcode == 'parameter' and self.arguments:
      scope, argument = self.arguments[int(i.argument)]
      return scope.linear(argument)
    if i.opcode == 'get-tuple-element' and i.operands[0] in self.computation.parameters:
      return int(i.attribute('index')), 0
    if i.opcode == 'add':
      one, two = map(self.linear, i.operands)
      if one and two and None in (one[0], two[0]):
        return two[0] if one[0] is None else one[0], one[1] + two[1]
    return None

  def limit(self, name: str) -> tuple[int, int] | None:
    """(k, n) of the condition that the k-th number which a loop carries is below n."""
    i = self.computation.instructions[name]
    if i.opcode == 'fusion':
      inner = self.inside(i)
      return inner.limit(inner.computation.root)
    if i.opcode != 'compare' or i.attribute('direction') != 'LT':
      return None
    left, right = map(self.linear, i.operands)
    if not left or not right or left[0] is None or right[0] is not None:
      return None
    return left[0], right[1] - left[1]


def parse(text: str | None) -> Module:
  """The program that `Compiled.as_text` shows.

  Raises ValueError where there is no text, or where a line is of no known form: left out, it would
  silently count as no work.
  """
  if text is None:
    raise ValueError('the backend shows no text of the compiled program')
  computations, entry, name, lines, root, types = {}, None, None, {}, None, {}
  for line in text.splitlines():
    if name is None:
      header = _HEADER.match(line)
      if header:
        name, lines, root, types = header[2], {}, None, {}
        entry = name if header[1] else entry
    elif line.startswith('}'):
      computations[name], name = Computation(lines, root), None
    elif found := _NAME.match(line):
      rest = line[found.end():]
      instruction = _instruction(found[2], rest)
      for operand in instruction.operands:
        _take_elements(operand, lines, types)
      lines[found[2]], types[found[2]] = instruction, _type(rest)
      root = found[2] if found[1] else root
    elif line.strip():
      raise ValueError(f'not a line of a compiled program: {line[:80]}')
  if entry is None:
    raise ValueError('not the text of a compiled program: it has no ENTRY')
  count = lambda word: int((re.search(rf'\b{word}=(\d+)', text.partition('\n')[0]) or '11')[1])
  return Module(computations, entry, count('num_partitions') * count('replica_count'))


def _instruction(name: str, rest: str) -> Instruction:
  """From what follows `name = `: type opcode(operands), attributes."""
  end = len(_type(rest))
  opcode = _OPCODE.match(rest, end)
  if not opcode:
    raise ValueError(f'not an instruction of a compiled program: {name} = {rest[:80]}')
  close = _closing(rest, opcode.end() - 1)
  argument, attributes = rest[opcode.end():close - 1], rest[close:]
  op_name = _OP_NAME.search(attributes)
  operands = () if opcode[1] == 'constant' else re.findall(r'%([\w.\-]+(?:#\d+)*)', argument)
  return Instruction(name, opcode[1], _arrays(rest[:end]), tuple(operands), argument,
                     _METADATA.sub('', attributes), op_name[1] if op_name else '')


def _type(rest: str) -> str:
  """The type at the beginning of what follows `name = `."""
  return rest[:_closing(rest, 0) if rest.startswith('(') else rest.index(' ')]


def _take_elements(operand: str, lines: dict[str, Instruction], types: dict[str, str]) -> None:
  """Adds the instructions that an operand such as `x#0#2` stands for.

  It is element 2 of element 0 of `x`: newer compilers write no get-tuple-element for it.
  """
  name, *indices = operand.split('#')
  for index in indices:
    whole, name = name, f'{name}#{index}'
    if name not in lines:
      types[name] = _elements(types[whole])[int(index)]
      lines[name] = Instruction(name, 'get-tuple-element', _arrays(types[name]), (whole,),
                                f'%{whole}', f', index={index}', '')


def _elements(text: str) -> list[str]:
  """The types of the elements of a tuple's type."""
  found, depth, start = [], 0, 1
  for at, sign in enumerate(text):
    depth += {'(': 1, '{': 1, '[': 1, ')': -1, '}': -1, ']': -1}.get(sign, 0)
    if (sign == ',' and depth == 1) or (sign == ')' and depth == 0):
      found.append(text[start:at].strip())
      start = at + 1
  return found


@functools.cache
def _arrays(text: str) -> tuple[Array, ...]:
  return tuple(Array(dtype, tuple(int(n.lstrip('<=')) for n in dims.split(',') if n))
               for dtype, dims in _ARRAY.findall(re.sub(r'\{[^}]*\}|/\*.*?\*/', '', text)))


def _closing(text: str, start: int) -> int:
  """The position after the bracket that closes the one at `start`; quoted ones do not count."""
  depth = 0
  for found in re.compile(r'"(?:[^"\\]|\\.)*"|[()]').finditer(text, start):
    depth += {'(': 1, ')': -1}.get(found[0], 0)
    if not depth:
      return found.end()
  raise ValueError(f'not an instruction of a compiled program: {text[:80]}')
