"""Every loss on eight devices is the loss on one, its gradients too, and regions never travel.

Twins that gather by hand inside shard_map say what the compiler should have made of the program.
"""
import functools
import pkgutil
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax import methods
from xmc_jax.losses import contrastive, matching
from xmc_jax.losses.contrastive import nt_xent
from xmc_jax.losses.groups import within
from xmc_jax.losses.matching import word_loss
from xmc_jax.losses.positives import positive_pairs
from xmc_jax.methods import xmc_gan
from xmc_jax.networks.base import DiscriminatorOutput, ForwardOutputs, Text
from xmc_jax.training.mesh import by_row, make_mesh

B, N, T, E, D = 16, 64, 3, 8, 6        # two rows a device; one row's regions exceed all words
HERE = B // 8
SHAPES = {'words': (B, T, E), 'real_logits': (B,), 'fake_logits': (B,)} | {
    f'{side}_{kind}': (B, *shape) for side in ('real', 'fake') for kind, shape in (
        ('features', (D,)), ('regions', (N, E)), ('sentence', (D,)), ('embedding', (D,)))}
MASK = np.arange(T) < 1 + np.arange(B)[:, None] % T
LABELS = (np.arange(B) // 3 % 4).astype(np.int32)

# XMC-GAN's losses, by the network that learns from them.
HINGES = ('d/hinge', 'g/hinge')
CONTRASTS = ('d/sentence', 'd/word', 'g/sentence', 'g/word', 'g/image', 'g/image_frozen')


def arrays():
  return {k: toys.normal(i, *shape) for i, (k, shape) in enumerate(SHAPES.items())}


def xmc_losses(out, rows):
  """{network/loss: value}, contrasting `rows` rows."""
  by_network = {'d': xmc_gan.discriminator_losses, 'g': xmc_gan.generator_losses}
  return {f'{network}/{name}': value for network, losses_of in by_network.items()
          for name, value in losses_of(out, group=rows).items()}


def method_loss(name, rows):
  """A loss of XMC-GAN as a function of the arrays that it may look at, by name."""
  def loss(x, mask, labels):
    d = (DiscriminatorOutput((x[f'{side}_logits'],), x[f'{side}_features'], x[f'{side}_regions'],
                             x[f'{side}_sentence']) for side in ('real', 'fake'))
    text = Text(x['words'], mask, x['words'][:, 0])
    out = ForwardOutputs({}, text, (), *d, x['real_embedding'], x['fake_embedding'])
    return xmc_losses(out, rows)[name]
  return loss


def reference_loss(*arrays):
  return word_loss(*arrays, scores=matching.word_scores_reference)


def chunked_loss(*arrays):
  return word_loss(*arrays, scores=functools.partial(matching.word_scores, chunk=4))


def losses(rows):
  """{name: loss of (arrays, mask, labels)}, contrasting `rows` rows: XMC-GAN's, and others."""
  sup_con = lambda z, y: contrastive.sup_con(z, positive_pairs(y), 0.1)
  multi = lambda a, b, y: contrastive.multi_positive_nce(a, b, positive_pairs(y), 0.1)
  words = lambda loss: lambda x, mask, y: within(rows, loss)(x['real_regions'], x['words'], mask)
  return {
      **{name: method_loss(name, rows) for name in HINGES + CONTRASTS},
      'word_reference': words(reference_loss), 'word_chunked': words(chunked_loss),
      'sup_con': lambda x, mask, y: within(rows, sup_con)(x['real_embedding'], y),
      'multi_positive': lambda x, mask, y: within(rows, multi)(
          x['real_embedding'], x['fake_embedding'], y)}


def placed(devices, *trees):
  """Trees of arrays [b, ...] with rows split over the first `devices` devices."""
  sharding = by_row(make_mesh(jax.devices()[:devices]), rounds=False)
  return jax.device_put(trees, sharding)


@functools.cache
def compiled(devices, rows):
  """The program of `results`."""
  run = lambda *args: {name: jax.value_and_grad(loss)(*args) for name, loss in losses(rows).items()}
  return jax.jit(run).lower(*placed(devices, arrays(), MASK, LABELS)).compile()


@functools.cache
def results(devices, rows):
  """{name: (loss, gradients)} of all losses on some devices."""
  return jax.device_get(compiled(devices, rows)(*placed(devices, arrays(), MASK, LABELS)))


def same(a, b, rtol=1e-5):
  """Two trees of arrays are equal but for rounding, measured by the largest number of each leaf."""
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol * np.abs(y).max(initial=0))


def moved(program):
  """Shapes of all that a compiled program moves, summed arrays included."""
  summed = re.findall(r'= (.*?) (?:all-reduce|reduce-scatter)(?:-start)?\(', program.as_text())
  shapes = [shape for _, shapes in toys.collectives(program) for shape in shapes]
  return shapes + [tuple(int(n) for n in shape.split(',') if n)
                   for result in summed for shape in re.findall(r'\[([\d,]*)\]', result)]


# Methods whose losses tests/methods compares, in whole steps on one device and on eight.
IN_WHOLE_STEPS = {'attngan', 'clip', 'damsm', 'df_gan', 'dm_gan', 'galip', 'scl', 'ssa_gan',
                  'swift'}


def test_every_method_is_compared_somewhere():
  pages = {module.name for module in pkgutil.iter_modules(methods.__path__)}
  assert {name for name in pages if name[0] != '_'} == IN_WHOLE_STEPS | {'xmc_gan'}


def test_every_loss_of_xmc_gan_is_compared():
  out = ForwardOutputs({}, toys.text(rows=4), (), *(
      DiscriminatorOutput((toys.normal(i, 4),), toys.normal(i, 4, D), toys.normal(i, 4, N, E),
                          toys.normal(i, 4, D)) for i in (1, 2)),
      toys.normal(3, 4, D), toys.normal(4, 4, D))
  assert jax.eval_shape(lambda: xmc_losses(out, None)).keys() == {*HINGES, *CONTRASTS}


@pytest.mark.parametrize('rows', [None, 4])
@pytest.mark.parametrize('name', losses(None))
def test_eight_devices_are_one(name, rows):
  one, eight = results(1, rows)[name], results(8, rows)[name]
  assert max(np.abs(g).max() for g in one[1].values()) > 1e-3
  same(eight, one)


@pytest.mark.parametrize('name', [name for name in losses(None) if name not in HINGES])
def test_groups_are_not_the_whole_batch(name):
  assert abs(results(8, 4)[name][0] - results(8, None)[name][0]) > 0.1


def gathered(x):
  return jax.lax.all_gather(x, 'data', axis=0, tiled=True)


def diagonal(scores):
  """Cross-entropy of the diagonal over rows plus columns, the same on every device."""
  log = jax.nn.logsumexp
  loss = jnp.mean(log(scores, 1) + log(scores, 0) - 2 * jnp.diagonal(scores))
  return jax.lax.pmean(loss, 'data')


def by_hand(loss, *arrays):
  """`loss` of each device's rows, inside shard_map; its value and gradient."""
  mesh = make_mesh()
  mapped = jax.shard_map(loss, mesh=mesh, in_specs=jax.P('data'), out_specs=jax.P())
  return jax.device_get(jax.jit(jax.value_and_grad(mapped, (0, 1)))(*placed(8, *arrays)))


def test_global_word_loss_is_words_gathered_and_scores_gathered():
  # Words travel and regions stay; the (local x global) block of scores is gathered with gradient.
  def twin(regions, words, mask):
    block = matching.word_scores_reference(regions, gathered(words), gathered(mask))
    assert block.shape == (HERE, B)
    return diagonal(gathered(block))

  value, (regions, words) = by_hand(twin, arrays()['real_regions'], arrays()['words'], MASK)
  loss, grads = results(8, None)['d/word']
  same((value, regions, words), (loss, grads['real_regions'], grads['words']), 1e-4)


def test_global_sentence_loss_is_embeddings_gathered_and_scores_gathered():
  def twin(a, b):
    unit = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    return diagonal(gathered(unit(a) @ gathered(unit(b)).T / 0.1))

  value, embeddings = by_hand(twin, arrays()['real_features'], arrays()['real_sentence'])
  loss, grads = results(8, None)['d/sentence']
  same((value, *embeddings), (loss, grads['real_features'], grads['real_sentence']))


@pytest.mark.parametrize('loss, inputs', [
    (nt_xent, ('real_features', 'real_sentence')), (word_loss, ('real_regions', 'words'))])
def test_local_losses_of_a_devices_rows_are_what_the_devices_average(loss, inputs):
  # The released code: every device contrasts its own rows, and the losses are averaged.
  rest = (MASK,) if loss is word_loss else ()
  sample = [*(arrays()[k] for k in inputs), *rest]
  expected = by_hand(lambda *x: jax.lax.pmean(loss(*x), 'data'), *sample)
  ours = jax.jit(jax.value_and_grad(within(HERE, loss), (0, 1)))(*placed(8, *sample))
  same(jax.device_get(ours), expected)


def test_nothing_travels_for_groups_that_lie_on_one_device():
  program = compiled(8, HERE)
  assert toys.collectives(program) == [] and set(moved(program)) == {()}    # sums of losses


@pytest.mark.parametrize('rows', [None, 4])
def test_nothing_larger_than_all_words_travels(rows):
  shapes = moved(compiled(8, rows))
  assert (B, T, E) in shapes or rows
  assert max(map(np.prod, shapes)) <= B * T * E < N * E


@pytest.mark.parametrize('b', [16, 64])
def test_words_travel_once_at_the_papers_sizes(b):
  # 256 regions and 17 words of 768 features. Words are frozen; scores are chunked for 64 rows.
  rows = by_row(make_mesh(), rounds=False)
  spec = lambda dtype, *shape: jax.ShapeDtypeStruct(shape, dtype, sharding=rows)
  sample = (spec(jnp.float32, b, 256, 768), spec(jnp.float32, b, 17, 768), spec(jnp.bool_, b, 17))
  program = jax.jit(jax.value_and_grad(word_loss)).lower(*sample).compile()
  assert sorted(toys.collectives(program)) == [('all-gather', [(b, 17)]),
                                               ('all-gather', [(b, 17, 768)])]
  assert set(moved(program)) <= {(b, 17), (b, 17, 768), (b,), ()}
