"""What each loss term looks at, and what it makes of it."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.losses import terms
from xmc_jax.losses.adversarial import hinge_d, hinge_g
from xmc_jax.losses.contrastive import nt_xent
from xmc_jax.losses.matching import word_loss
from xmc_jax.networks.base import DiscriminatorOutput, ForwardOutputs, Text

pytestmark = pytest.mark.usefixtures('strict')

B, N, D, E, T = 4, 6, 5, 3, 2


def arrays():
  """Everything that a term could look at, by name; the mask has padding in every second row."""
  shapes = {'words': (B, T, E), 'real_embedding': (B, D), 'fake_embedding': (B, D)}
  for side in ('real', 'fake'):
    shapes |= {f'{side}_logits': (B,), f'{side}_features': (B, D), f'{side}_regions': (B, N, E),
               f'{side}_sentence': (B, D)}
  return {k: jnp.array(toys.normal(i, *shape)) for i, (k, shape) in enumerate(shapes.items())}


MASK = jnp.array([[True, True], [True, False]] * 2)


def outputs(x):
  views = (DiscriminatorOutput((x[f'{side}_logits'],), x[f'{side}_features'], x[f'{side}_regions'],
                 x[f'{side}_sentence']) for side in ('real', 'fake'))
  text = Text(x['words'], MASK[:len(x['words'])], x['words'][:, 0])
  return ForwardOutputs({}, text, (), *views, x['real_embedding'], x['fake_embedding'])


HINGES = [   # term, what it is of, the arrays that it depends on
    ('hinge_discriminator', hinge_d, ('real_logits', 'fake_logits')),
    ('hinge_generator', hinge_g, ('fake_logits',))]
CONTRASTS = [
    ('sentence_real', nt_xent, ('real_features', 'real_sentence')),
    ('sentence_fake', nt_xent, ('fake_features', 'fake_sentence')),
    ('word_real', lambda r, w: word_loss(r, w, MASK), ('real_regions', 'words')),
    ('word_fake', lambda r, w: word_loss(r, w, MASK), ('fake_regions', 'words')),
    ('image_discriminator', nt_xent, ('fake_features', 'real_features')),
    ('image_frozen', nt_xent, ('fake_embedding', 'real_embedding'))]
TABLE = HINGES + CONTRASTS


def made(name, rows=None):
  """The term of this name; those that contrast, of `rows` rows."""
  term = getattr(terms, name)
  return term if name in [row[0] for row in HINGES] else term(rows)


@pytest.mark.parametrize('name, loss, inputs', TABLE, ids=[row[0] for row in TABLE])
def test_term_is_this_loss_of_these_arrays_and_of_nothing_else(name, loss, inputs):
  x = arrays()
  value, grads = jax.value_and_grad(lambda x: made(name)((outputs(x),)))(x)
  np.testing.assert_allclose(value, loss(*(x[k] for k in inputs)), rtol=1e-6)
  assert {k for k, g in grads.items() if g.any()} == set(inputs)
  assert value.dtype == jnp.float32 and value.shape == ()


@pytest.mark.parametrize('name', [row[0] for row in CONTRASTS])
def test_contrast_within_two_rows_is_the_mean_over_the_halves(name):
  x = arrays()
  halves = [{k: v[rows] for k, v in x.items()} for rows in (slice(0, 2), slice(2, 4))]
  expected = np.mean([made(name)((outputs(half),)) for half in halves])
  np.testing.assert_allclose(made(name, 2)((outputs(x),)), expected, rtol=1e-5)
  assert abs(made(name)((outputs(x),)) - expected) > 1e-2


def test_each_sums_over_branches():
  branches = [outputs({k: v + i for k, v in arrays().items()}) for i in (0, 1)]
  one_by_one = [terms.hinge_discriminator((b,)) for b in branches]
  assert one_by_one[0] != one_by_one[1]
  np.testing.assert_allclose(terms.hinge_discriminator(tuple(branches)), sum(one_by_one), rtol=1e-6)


def test_hinges_sum_over_scales():
  # Real logits 0 -> 1, fake logits -2 -> 0; the second scale adds real 3 -> 0 and fake 1 -> 2.
  view = lambda *scales: DiscriminatorOutput(tuple(jnp.full(B, v) for v in scales), None, None, None)
  b = ForwardOutputs({}, None, (), view(0.0, 3.0), view(-2.0, 1.0))
  assert terms.hinge_discriminator((b,)) == 3
  assert terms.hinge_generator((b,)) == 1                      # -(-2) + -(1)


def test_accuracies_by_hand():
  # Right are real logits above 0 (two of four) and fake ones below (three of four). Codes of reals
  # equal those of their captions; each fake has the code of the next row's caption.
  embeddings = jnp.eye(4, D)
  real = DiscriminatorOutput((jnp.array([1.0, 2, -1, 0]),), embeddings, None, embeddings)
  fake = DiscriminatorOutput((jnp.array([-1.0, -2, 3, -4]),), jnp.roll(embeddings, -1, 0), None, embeddings)
  found = terms.accuracies((ForwardOutputs({}, None, (), real, fake),))
  assert found == {'real': 0.5, 'fake': 0.75, 'sentence_real': 1.0, 'sentence_fake': 0.0}


def judged():
  """A branch of four rows with two scales; all logits different."""
  draw = lambda i: (jnp.array(toys.normal(i, 4)), jnp.array(toys.normal(i + 1, 4)))
  view = lambda i: DiscriminatorOutput(draw(i), unconditional=draw(i + 2))
  return ForwardOutputs({}, None, (), view(0), view(4), d_wrong=DiscriminatorOutput(draw(8)),
                latent=(jnp.ones((4, 2)), jnp.zeros((4, 2))))


def test_cross_entropies_sum_over_scales_and_leave_the_last_wrong_pair_out():
  b = judged()
  as_fake = lambda x: np.log1p(np.exp(np.asarray(x, float))).mean()
  discriminator = generator = 0.0
  for i in range(2):
    real, fake = ((v.unconditional[i], v.logits[i]) for v in (b.d_real, b.d_fake))
    discriminator += sum(as_fake(-x) for x in real) / 2
    discriminator += (sum(map(as_fake, fake)) + as_fake(b.d_wrong.logits[i][:3])) / 3
    generator += sum(as_fake(-x) for x in fake)
  np.testing.assert_allclose(terms.bce_discriminator((b,)), discriminator, rtol=1e-5)
  np.testing.assert_allclose(terms.bce_generator((b,)), generator, rtol=1e-5)


def test_kl_is_of_the_latent():
  # N(1, 1) in each of two features: -1/2 (1 + 0 - 1 - 1) = 1/2 each, and two branches.
  assert terms.kl((judged(), judged())) == 1.0


def test_pair_accuracies_are_of_the_last_scale():
  view = lambda *logits: DiscriminatorOutput((jnp.array([-1.0, -1, -1, -1]) * jnp.nan, jnp.array(logits)))
  b = ForwardOutputs({}, None, (), view(1.0, 1, 1, -1), view(-1.0, 1, 1, 1),
             d_wrong=view(-1.0, -1, 1, 0))
  assert terms.pair_accuracies((b,)) == {'real': 0.75, 'fake': 0.25, 'wrong': 0.5}
