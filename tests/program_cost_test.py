"""Costs against closed impl, against the same program without loops, and against XLA's account."""
import functools
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import versions
from hlo_texts import PROGRAM, STRANGE

sys.path.append(str(tiny.ROOT / 'benchmarks'))
from program_cost import collectives, cost

NEWER_EMITTERS = {'xla_cpu_use_fusion_emitters': True} if versions.OLDER_EMITTERS else {}
LEVELS = {'lightly': {'xla_backend_optimization_level': 0},
          'fully': {'xla_backend_optimization_level': 3, 'xla_llvm_disable_expensive_passes': False,
                    **NEWER_EMITTERS}}
X, W = jax.ShapeDtypeStruct((64, 96), jnp.float32), jax.ShapeDtypeStruct((96, 96), jnp.float32)
PRODUCT = 2 * 64 * 96 * 96                # of X @ W


def build(f, *args, **options):
  return jax.jit(f).lower(*args).compile(compiler_options=options or None)


def text_only(text):
  """What stands for a compiled program of another backend."""
  return types.SimpleNamespace(as_text=lambda: text, memory_analysis=lambda: None)


def shaped(*shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)


def scan(f, length):
  return lambda x, *args: jax.lax.scan(lambda c, _: (f(c, *args), None), x, None, length=length)[0]


LOOPS = {
    'fori_loop': (lambda x, w: jax.lax.fori_loop(0, 7, lambda i, c: c @ w, x), 7),
    'from 3 to 9': (lambda x, w: jax.lax.fori_loop(3, 9, lambda i, c: c @ w, x), 6),
    'by twos': (lambda x, w: jax.lax.while_loop(
        lambda c: c[0] < 8, lambda c: (c[0] + 2, c[1] @ w), (1, x))[1], 4),
    'scan': (scan(jnp.matmul, 7), 7),
    'map': (lambda x, w: jax.lax.map(lambda y: y @ w, jnp.stack(5 * [x])), 5),
    'map in batches': (lambda x, w: jax.lax.map(lambda y: y @ w, jnp.stack(6 * [x]), batch_size=2),
                       6),
    'nested': (scan(scan(jnp.matmul, 3), 5), 15),
    'nested, beside': (lambda x, w: scan(scan(jnp.matmul, 3), 5)(x, w) @ w + x @ w, 17),
    # Forward; backward x and w. Rematerialised, each turn is computed twice but for its last sum.
    'gradient': (jax.grad(lambda x, w: scan(lambda c, w: jnp.tanh(c @ w), 4)(x, w).sum(), (0, 1)),
                 12),
    'remat': (jax.grad(lambda x, w: scan(jax.checkpoint(lambda c, w: jnp.tanh(jnp.tanh(c @ w) @ w)),
                                         4)(x, w).sum(), (0, 1)), 4 * (2 + 2 + 4)),
}


@pytest.mark.parametrize('name', LOOPS)
def test_a_loop_counts_as_often_as_it_runs(name):
  f, products = LOOPS[name]
  found = cost(build(f, X, W))
  # Besides the products: sums and tanh's derivative, at most 8 for every element of X a turn.
  assert 0 <= found['flops'] - products * PRODUCT <= 8 * 64 * 96 * products
  assert found.keys() == {'flops', 'bytes_accessed', 'argument_bytes', 'temp_bytes'}
  assert all(isinstance(n, int) for n in found.values())


def test_a_loop_costs_what_its_turns_cost_one_by_one():
  turn = lambda c, w: jax.nn.softmax(jnp.tanh(c @ w) + c)
  unrolled = build(lambda x, w: functools.reduce(lambda c, _: turn(c, w), range(6), x), X, W)
  loop, plain = cost(build(scan(turn, 6), X, W)), unrolled.cost_analysis()
  assert abs(loop['flops'] / plain['flops'] - 1) < 1e-3
  # A loop copies what it carries, at most once a turn.
  assert 0 <= loop['bytes_accessed'] - plain['bytes accessed'] <= 6 * 2 * 64 * 96 * 4 + 200


def test_the_slices_that_a_loop_takes_are_what_it_reads():
  xs = shaped(50, 64, 96)
  one = 64 * 96 * 4
  found = cost(build(lambda xs: jax.lax.scan(lambda c, x: (c + x, None), xs[0], xs)[0], xs))
  assert 3 * 50 * one <= found['bytes_accessed'] <= (3 * 50 + 6) * one


def test_a_body_of_shard_map_counts_on_one_device():
  mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
  f = jax.shard_map(scan(lambda c, w: jax.lax.psum(c @ w, 'data') / 8, 5), mesh=mesh,
                    in_specs=(jax.P('data'), jax.P()), out_specs=jax.P('data'), check_vma=False)
  found = cost(build(f, X, W))
  assert 0 <= found['flops'] - 5 * PRODUCT / 8 <= 5 * 8 * 8 * 96


def test_loops_of_unknown_length_are_told_and_counted_once():
  def until(x, w):
    inner = scan(jnp.matmul, 3)
    return jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: inner(c, w), x)
  found = cost(build(until, X, W))
  assert found['unknown_loops'] == 1
  assert 0 <= found['flops'] - 3 * PRODUCT <= 8 * 64 * 96


def test_of_branches_the_dearest_counts():
  branches = [lambda x, w: x @ w, lambda x, w: x, lambda x, w: x @ w @ w]
  found = cost(
    build(lambda k, x, w: jax.lax.switch(k, branches, x, w), shaped(dtype=jnp.int32), X, W)
  )
  assert 0 <= found['flops'] - 2 * PRODUCT <= 100


def test_what_no_flops_are_known_of_is_named():
  assert cost(build(lambda x: jax.lax.top_k(x, 3)[0], X))['uncounted'] == ['TopK']
  found = cost(module({}, '%a = f32[2] custom-call(), custom_call_target="Space"'))
  assert found['uncounted'] == ['Space']


def convolve(x, k, stride=1, padding='SAME', **options):
  return jax.lax.conv_general_dilated(x, k, (stride, stride), padding, **options,
                                      dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


# Convolutions of the networks at small width: 3x3, 1x1, folded 4x4 of stride two and 2x2, strided.
CONVOLUTIONS = {
    '3x3': ((4, 16, 16, 12), (3, 3, 12, 24), {}),
    '1x1': ((4, 16, 16, 12), (1, 1, 12, 24), {}),
    'pooled': ((4, 16, 16, 12), (4, 4, 12, 24), dict(stride=2, padding=((1, 1), (1, 1)))),
    'parity': ((4, 8, 8, 12), (2, 2, 12, 24), dict(padding=((1, 0), (0, 1)))),
    'spread': ((4, 8, 8, 12), (4, 4, 12, 24), dict(lhs_dilation=(2, 2), padding=((2, 2), (2, 2)))),
    'strided': ((4, 16, 16, 12), (3, 3, 12, 24), dict(stride=2)),
    'in groups': ((4, 16, 16, 12), (3, 3, 4, 24), dict(feature_group_count=3)),
}


def products(image, kernel, options):
  """FLOPs of a convolution: two for each term of a sum; of ones, the sums count their terms."""
  ones = convolve(jnp.ones(image), jnp.ones(kernel), **options)
  return 2 * int(np.asarray(ones, np.float64).sum()), ones.shape


@pytest.mark.parametrize('level', LEVELS)
@pytest.mark.parametrize('name', CONVOLUTIONS)
def test_convolutions_count_their_terms_without_padding(name, level):
  image, kernel, options = CONVOLUTIONS[name]
  once, result = products(image, kernel, options)
  conv = functools.partial(convolve, **options)
  args = shaped(*image), shaped(*kernel)
  assert cost(build(conv, *args, **LEVELS[level]))['flops'] == once

  def vjp_fn(x, k, g):
    return jax.vjp(conv, x, k)[1](g)
  backward = cost(build(vjp_fn, *args, shaped(*result), **LEVELS[level]))
  assert backward['flops'] == 2 * once
  loop = cost(build(scan(lambda x, k: x + vjp_fn(x, k, conv(x, k))[0], 3), *args, **LEVELS[level]))
  assert 0 <= loop['flops'] - 3 * 2 * once <= 3 * (np.prod(image) + 8)


@pytest.mark.parametrize('level', LEVELS)
@pytest.mark.parametrize('subscripts, left, right, flops', [
    ('bf,fg->bg', (8, 96), (96, 32), 2 * 8 * 96 * 32),
    ('brf,bwf->brw', (8, 256, 48), (8, 17, 48), 2 * 8 * 256 * 17 * 48),
    ('irf,jwf->ijrw', (8, 256, 48), (4, 17, 48), 2 * 8 * 4 * 256 * 17 * 48),
    ('bhwf,fg->bhwg', (4, 16, 16, 12), (12, 24), 2 * 4 * 16 * 16 * 12 * 24)])
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_products_of_matrices(subscripts, left, right, flops, dtype, level):
  f = functools.partial(jnp.einsum, subscripts)
  found = cost(build(f, shaped(*left, dtype=dtype), shaped(*right, dtype=dtype), **LEVELS[level]))
  size = np.prod(left) + np.prod(right) + flops / 2 / left[-1]
  assert 0 <= found['flops'] - flops <= 2 * size            # conversions of bfloat16


X4 = shaped(2, 8, 8, 12)
WITHOUT_LOOPS = {
    'softmax': (jax.nn.softmax, X),
    'matmul': (lambda x, w: jnp.tanh(x @ w).sum(), X, W),
    'gather': (lambda x, i: x[i], X, shaped(7, dtype=jnp.int32)),
    'scatter': (lambda x, i: x.at[i].add(1.), X, shaped(7, dtype=jnp.int32)),
    'slices': (lambda x, i: jax.lax.dynamic_slice(x, (i, i), (5, 3)) * x[3:8, :3], X,
               shaped(dtype=jnp.int32)),
    'written in place': (lambda x, i: jax.lax.dynamic_update_slice(x, x[:2, :3] + 1, (i, i)), X,
                         shaped(dtype=jnp.int32)),
    'table': (lambda x: x * np.arange(96, dtype=np.float32)[::-1] ** 2, X),
    'sort': (jnp.sort, X),
    'argmax': (lambda x: jnp.argmax(x, 1), X),
    'max pool': (jax.grad(lambda x: jax.lax.reduce_window(
        x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), 'VALID').sum()), X4),
    'resize': (lambda x: jax.image.resize(x, (2, 16, 16, 12), 'bilinear'), X4),
    'bfloat16': (lambda x, w: (x.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16)).astype(x.dtype),
                 X, W),
    'norm': (jax.grad(lambda x: ((x - x.mean((0, 1, 2))) * jax.lax.rsqrt(
        x.var((0, 1, 2)) + 1e-5)).sum()), X4),
    'convolution': (jax.value_and_grad(lambda x, k: (convolve(x, k) ** 2).sum(), (0, 1)),
                    X4, shaped(3, 3, 12, 24)),
}


@pytest.mark.parametrize('name', WITHOUT_LOOPS)
def test_without_loops_it_is_the_account_of_xla(name):
  # The older emitters, which conftest.py chooses, would make loops of scattering.
  compiled = build(*WITHOUT_LOOPS[name], **NEWER_EMITTERS)
  found, account = cost(compiled), compiled.cost_analysis()
  assert found['flops'] == account['flops'] > 0 or name == 'gather'
  # XLA counts eight bytes for every entry of a tuple's table.
  assert 0 <= account['bytes accessed'] - found['bytes_accessed'] <= 4 * 8
  assert found['argument_bytes'] == sum(
    np.prod(a.shape, dtype=jnp.int32) * a.dtype.itemsize for a in jax.tree.leaves(compiled.in_avals)
  )


def module(parameters, *lines):
  """A program of the text of its instructions; parameters: {name: shape}, of bfloat16."""
  array = lambda shape: f'bf16[{",".join(map(str, shape))}]'
  lines = [f'%{name} = {array(shape)} parameter({i}), metadata={{op_name="{name} )("}}'
           for i, (name, shape) in enumerate(parameters.items())] + list(lines)
  return text_only('\n'.join([
      'HloModule jit_f, is_scheduled=true, num_partitions=8', '',
      '%add (x: f32[], y: f32[]) -> f32[] {',
      '  %x = f32[] parameter(0)', '  %y = f32[] parameter(1)',
      '  ROOT %sum = f32[] add(%x, %y)', '}', '', 'ENTRY %main (all: f32[]) -> bf16[] {',
      *(f'  {line}' for line in lines[:-1]), f'  ROOT {lines[-1]}', '}']))


@pytest.mark.parametrize('line, size', [       # a: 1000 bytes, b: 2 bytes, c: 100 bytes
    ('bf16[5,10] slice(%a), slice={[0:5], [0:10]}', 2 * 100),
    ('bf16[5,10] dynamic-slice(%a, %b, %b), dynamic_slice_sizes={5,10}', 2 * 100 + 2),
    ('bf16[50,10] dynamic-update-slice(%a, %c, %b, %b)', 2 * 100 + 2),
    ('bf16[5,10] gather(%a, %b), offset_dims={0,1}', 2 * 100 + 2),
    ('bf16[50,10] scatter(%a, %b, %c), to_apply=%add', 3 * 100 + 2),
    ('(bf16[50,10], bf16[50,10], u32[]) copy-start(%a)', 2 * 1000 + 4),
    ('bf16[50,10] copy-done(%a)', 0),
    ('bf16[50,10] custom-call(), custom_call_target="AllocateBuffer"', 0),
    ('bf16[10,50] transpose(%a), dimensions={1,0}', 2 * 1000),
    ('bf16[500] bitcast(%a)', 0)])
def test_what_is_read_and_written_unfused(line, size):
  found = cost(module(dict(a=(50, 10), b=(), c=(5, 10)), f'%out = {line}'))
  assert found['bytes_accessed'] == size and 'uncounted' not in found


MESH = functools.cache(lambda: jax.make_mesh((4, 2), ('a', 'b'),
                                             axis_types=2 * (jax.sharding.AxisType.Auto,)))
ROWS = shaped(16, 8)                     # 512 bytes; 128 on each of four devices


def moved(f, *out):
  return collectives(build(jax.shard_map(f, mesh=MESH(), in_specs=jax.P('a'),
                                         out_specs=jax.P(*out),
                                         check_vma=False), ROWS))


ring = lambda k: [(i, (i + 1) % k) for i in range(k)]


# kind, shapes of results, their bytes, devices, times, bytes that a device sends
@pytest.mark.parametrize('f, kind, shape, size, devices, times, sent', [
    (lambda x: jax.lax.all_gather(x, 'a', tiled=True), 'all-gather', (16, 8), 512, 4, 1, 384),
    (lambda x: jax.lax.all_gather(x, ('a', 'b')), 'all-gather', (8, 4, 8), 1024, 8, 1, 896),
    (lambda x: jax.lax.psum(x, 'b'), 'all-reduce', (4, 8), 128, 2, 1, 128),
    (lambda x: jax.lax.psum(x, 'a'), 'all-reduce', (4, 8), 128, 4, 1, 192),
    (lambda x: jax.lax.psum_scatter(x, 'a', tiled=True), 'reduce-scatter', (1, 8), 32, 4, 1, 96),
    (lambda x: jax.lax.ppermute(x, 'a', ring(4)), 'collective-permute', (4, 8), 128, 8, 1, 128),
    (lambda x: jax.lax.scan(lambda c, _: (scan(lambda d: jax.lax.psum(d, 'a') / 4, 3)(c), None), x,
                            None, length=5)[0], 'all-reduce', (4, 8), 128, 4, 15, 15 * 192)])
def test_what_is_moved_and_how_often(f, kind, shape, size, devices, times, sent):
  [found] = moved(f)
  assert (found.kind, found.shapes, found.dtypes) == (kind, (shape,), ('f32',))
  assert (found.bytes, found.devices, found.times, found.sent) == (size, devices, times, sent)


def test_all_to_all_exchanges_parts():
  [found] = moved(lambda x: jax.lax.all_to_all(x, 'a', 1, 0, tiled=True), None, 'a')
  assert (found.kind, found.shapes, found.sent) == ('all-to-all', 4 * ((4, 2),), 96)


def test_sums_that_are_joined_keep_their_names():
  def f(x):
    with jax.named_scope('first'):
      y = jax.lax.psum(x, 'a')
    with jax.named_scope('second'):
      return y, jax.lax.psum(x[:2] + 1, 'a')
  [found] = moved(f)
  assert (found.kind, found.shapes, found.bytes) == ('all-reduce', ((4, 8), (2, 8)), 128 + 64)
  assert ['first' in name for name in found.op_names] == [True, False]
  assert ['second' in name for name in found.op_names] == [False, True]


def test_a_program_of_one_device_moves_nothing():
  assert collectives(build(jnp.matmul, X, W)) == []


@pytest.mark.parametrize('line, kind, shapes, devices, sent', [
    ('(bf16[4,8]{1,0}, bf16[32,8]{1,0}) all-gather-start(%p), replica_groups=[1,8]<=[8], '
     'dimensions={0}', 'all-gather', ((32, 8),), 8, 448),
    ('((bf16[4,8]{1,0}, bf16[6]{0}), (bf16[16,8]{1,0}, bf16[24]{0})) all-gather-start(%p, %q), '
     'replica_groups=[2,4]<=[4,2]T(1,0), dimensions={0}', 'all-gather', ((16, 8), (24,)), 4, 228),
    ('bf16[4,8]{1,0} all-reduce-start(%p), replica_groups={}, to_apply=%add', 'all-reduce',
     ((4, 8),), 8, 112),
    ('(bf16[4,8]{1,0:T(8,128)}, bf16[6]{0}) all-reduce-start(%p, %q), '
     'replica_groups={{0,1},{2,3}}, to_apply=%add', 'all-reduce', ((4, 8), (6,)), 2, 76),
    ('(bf16[4,8]{1,0}, bf16[4,8]{1,0}, u32[], u32[]) collective-permute-start(%p), '
     'source_target_pairs={{0,1},{1,0}}', 'collective-permute', ((4, 8),), 8, 64),
    ('(bf16[4,8]{1,0}, bf16[4,8]{1,0}) collective-permute-start(%p), '
     'source_target_pairs={{0,0},{1,1}}', 'collective-permute', ((4, 8),), 1, 0),
    ('((bf16[4,8]{1,0}), bf16[1,8]{1,0}, u32[]) reduce-scatter-start(%p), '
     'replica_groups={{0,1,2,3}}, to_apply=%add', 'reduce-scatter', ((1, 8),), 4, 48),
    ('bf16[4,8]{1,0} ragged-all-to-all(%p, %p), replica_groups={{0,1,2,3}}', 'ragged-all-to-all',
     ((4, 8),), 4, 48)])
def test_other_ways_of_writing_it(line, kind, shapes, devices, sent):
  [found] = collectives(module(dict(p=(4, 8), q=(6,)), f'%start = {line}'))
  assert (found.kind, found.shapes, found.devices, found.sent) == (kind, shapes, devices, sent)


UNREADABLE = {
    'none': None, 'empty': '', **STRANGE,
    'unknown operand': PROGRAM.replace('add(%x.1', 'add(%y.1'),
    'missing computation': PROGRAM.replace('add(%x.1, %x.1)', 'fusion(%x.1), calls=%fused')}


@pytest.mark.parametrize('name', UNREADABLE)
def test_a_text_that_cannot_be_read_has_an_unknown_cost(name):
  memory = types.SimpleNamespace(argument_size_in_bytes=3, temp_size_in_bytes=4)
  program = types.SimpleNamespace(as_text=lambda: UNREADABLE[name], memory_analysis=lambda: memory)
  unknown = {'flops': None, 'bytes_accessed': None}
  assert cost(program) == unknown | {'argument_bytes': 3, 'temp_bytes': 4}
  assert cost(text_only(UNREADABLE[name])) == unknown


def test_the_same_text_unchanged_has_a_known_cost():
  assert cost(text_only(PROGRAM)) == {'flops': 6, 'bytes_accessed': 3 * 24}
  assert collectives(text_only(PROGRAM)) == []


@pytest.mark.parametrize('name', ['none', 'empty', *STRANGE])
def test_what_it_moves_is_unknown_too(name):
  assert collectives(text_only(UNREADABLE[name])) is None


def test_an_operation_that_is_not_known_is_named_and_never_silent():
  found = cost(text_only(PROGRAM.replace(' add(', ' add-twice(')))
  assert found['flops'] == 0 and found['uncounted'] == ['add-twice']
