"""The text of compiled programs: loops whose lengths are not written down, and what is no text."""
import re
import sys

import jax
import jax.numpy as jnp
import pytest
import tiny
from hlo_texts import PROGRAM, STRANGE

sys.path.append(str(tiny.ROOT / 'benchmarks'))
import hlo

# On the CPU a smaller program would call its loops as functions, which hides where they begin.
X = jax.ShapeDtypeStruct((96, 96), jnp.float32)


def loops(f, *, written):
  """Trips of every loop of a compiled program, innermost first; without the compiler's own word."""
  text = jax.jit(f).lower(X).compile().as_text()
  if not written:
    text = re.sub(r'"known_trip_count":{"n":"\d+"}', '', text)
  program = hlo.parse(text)
  return [program.trips(i, c) for c in program.computations.values()
          for i in c.instructions.values() if i.opcode == 'while']


def counting(begin, below, following):
  """A loop that carries an integer and an array."""
  return lambda x: jax.lax.while_loop(lambda c: below(c[0]), lambda c: (following(c[0]), c[1] @ x),
                                      (begin, x))[1]


def scan(f, length):
  return lambda x: jax.lax.scan(lambda c, _: (f(c), None), x, None, length=length)[0]


def swapped(x):
  step = lambda c: (c[1] + 1, c[0] + 1, c[2] @ x)
  return jax.lax.while_loop(lambda c: c[0] < 8, step, (0, 3, x))[2]


@pytest.mark.parametrize('f, trips', [
    (scan(lambda c: c @ c, 7), [7]),
    (scan(scan(lambda c: c @ c, 3), 5), [3, 5]),
    (lambda x: jax.lax.fori_loop(3, 9, lambda i, c: c @ c, x), [6]),
    (counting(1, lambda i: i < 8, lambda i: i + 2), [4]),
    (counting(2, lambda i: i < 8, lambda i: i + 2), [3]),
    (counting(1, lambda i: i + 3 < 8, lambda i: i + 1), [4])])
def test_lengths_of_loops_that_count_follow(f, trips):
  assert loops(f, written=False) == trips


@pytest.mark.parametrize('f', [
    counting(1, lambda i: i <= 8, lambda i: i + 1), counting(8, lambda i: i > 0, lambda i: i - 1),
    counting(1, lambda i: i < 8, lambda i: 2 * i), counting(1, lambda i: i < 8, lambda i: i + -1),
    counting(1, lambda i: i != 8, lambda i: i + 1), swapped,
    lambda x: jax.lax.while_loop(lambda c: c.sum() < 8, lambda c: c @ x, x),
    lambda x: jax.lax.fori_loop(0, x[0, 0].astype(int), lambda i, c: c @ x, x)])
def test_other_loops_are_not_guessed(f):
  assert loops(f, written=False) == [None]


def test_what_the_compiler_knows_is_taken():
  assert loops(counting(1, lambda i: i <= 8, lambda i: i + 1), written=True) == [8]


@pytest.mark.parametrize('text', ['', 'module @jit_f {\n}',
                                  'ENTRY %main () -> f32[] {\n  ROOT %a = f32[] 7\n}'])
def test_a_text_that_is_no_program_is_refused(text):
  with pytest.raises(ValueError, match='not (the text|an instruction) of a compiled program'):
    hlo.parse(text)


def test_the_program_that_is_made_strange_is_one():
  assert [i.opcode for i in hlo.parse(PROGRAM).computations['main.3'].instructions.values()] == [
      'parameter', 'add']


@pytest.mark.parametrize('name', STRANGE)
def test_a_line_of_an_unknown_form_is_refused_and_not_left_out(name):
  with pytest.raises(ValueError, match='of a compiled program'):
    hlo.parse(STRANGE[name])


def test_a_backend_without_text_is_refused():
  with pytest.raises(ValueError, match='no text'):
    hlo.parse(None)


INLINE = """HloModule jit_f, num_partitions=2

%below (c: (s32[], (f32[4,2], bf16[3]))) -> pred[] {
  %n = s32[] constant(5)
  %c = (s32[]{:T(128)}, (f32[4,2]{1,0:T(8,128)S(1)}, /*index=1*/bf16[3])) parameter(0)
  ROOT %lt = pred[] compare(%c#0, %n), direction=LT
}

%turn (c.1: (s32[], (f32[4,2], bf16[3]))) -> (s32[], (f32[4,2], bf16[3])) {
  %c.1 = (s32[]{:T(128)}, (f32[4,2]{1,0:T(8,128)S(1)}, /*index=1*/bf16[3])) parameter(0)
  %two = s32[] constant(2)
  %next = s32[] add(%c.1#0, %two)
  %minus = bf16[3] negate(%c.1#1#1)
  %pair = (f32[4,2], bf16[3]) tuple(%c.1#1#0, %minus)
  ROOT %out = (s32[], (f32[4,2], bf16[3])) tuple(%next, %pair)
}

ENTRY %main (x: (f32[4,2], bf16[3])) -> (s32[], (f32[4,2], bf16[3])) {
  %x = (f32[4,2], bf16[3]) parameter(0)
  %zero = s32[] constant(0)
  %begin = (s32[], (f32[4,2], bf16[3])) tuple(%zero, %x)
  ROOT %loop = (s32[], (f32[4,2], bf16[3])) while(%begin), condition=%below, body=%turn
}
"""


def test_elements_of_tuples_may_stand_where_they_are_used():
  program = hlo.parse(INLINE)
  main, turn = program.computations['main'], program.computations['turn'].instructions
  assert program.trips(main.instructions['loop'], main) == 3
  assert turn['c.1#1#1'].arrays == (hlo.Array('bf16', (3,)),)
  assert turn['c.1#1'].arrays == (hlo.Array('f32', (4, 2)), hlo.Array('bf16', (3,)))
  assert turn['minus'].operands == ('c.1#1#1',) and turn['pair'].operands == ('c.1#1#0', 'minus')
