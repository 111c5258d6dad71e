"""The loss functions of each method: which formula, of which arrays, and of nothing else."""
import dataclasses
import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.losses import damsm as damsm_formulas
from xmc_jax.losses.adversarial import bce_d, bce_g, hinge_d, hinge_g, hinge_matching_d
from xmc_jax.losses.contrastive import (
  mean_cosine,
  multi_positive,
  multi_positive_nce,
  nt_xent,
  sup_con,
)
from xmc_jax.losses.labels import label_cross_entropy
from xmc_jax.losses.latent import kl_to_normal
from xmc_jax.losses.matching import word_loss
from xmc_jax.losses.penalties import ma_gp
from xmc_jax.methods import (
  _damsm,
  attngan,
  clip,
  damsm,
  df_gan,
  dm_gan,
  galip,
  scl,
  ssa_gan,
  xmc_gan,
)
from xmc_jax.methods._diagnostics import accuracies, pair_accuracies, retrieval
from xmc_jax.networks.base import DiscriminatorOutput, ForwardOutputs, Text

B, N, D, E, T, C = 4, 6, 5, 3, 2, 3
MASK = jnp.array([[True, True], [True, False]] * 2)      # padding in every second row
LABELS = jnp.array([0, 1, 0, 2])
SAME = np.equal.outer(LABELS, LABELS)


@pytest.fixture(autouse=True)
def spelled_out():
  """Losses neither promote a dtype nor broadcast over a missing axis."""
  with jax.numpy_dtype_promotion('strict'), jax.numpy_rank_promotion('raise'):
    yield


def outputs(seed=0, scales=1):
  """ForwardOutputs with a number in every field that a loss can depend on; all of them differ."""
  count = iter(range(100 * seed, 100 * seed + 100))
  array = lambda *shape: jnp.array(toys.normal(next(count), *shape))
  logits = lambda: tuple(array(B) for _ in range(scales))
  d = lambda: DiscriminatorOutput(logits(), array(B, D), array(B, N, E), array(B, D), logits())
  return ForwardOutputs(
      {'label': LABELS}, Text(array(B, T, E), MASK, array(B, D)), (array(B, 2, 2, 3),), d(), d(),
      array(B, D), array(B, D), array(B, N, E), array(B, N, E), d(),
      latent=(array(B, D), array(B, D)), grad_norm_sq=jnp.abs(array(B)),
      label_logits=(array(B, C), array(B, C)))


def named(tree):
  """{path: leaf}."""
  return {jax.tree_util.keystr(path, simple=True, separator='.'): leaf
          for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def value_and_dependence(loss, *outs):
  """The value of a loss, and the paths of the arrays that its gradient depends on."""
  value, grads = jax.value_and_grad(loss, tuple(range(len(outs))), allow_int=True)(*outs)
  return value, {path.partition('.')[2] for path, g in named(grads).items()
                 if g.dtype != jax.dtypes.float0 and np.any(g)}


EXACT = dict(mask_rule='exact', gamma1=1.5, gamma2=2.5, gamma3=3.5)
TEMPERED = dict(temperature=0.5, mask_rule='exact')
apart = functools.partial(damsm_formulas.sentences, rule='exact')
words_apart = functools.partial(damsm_formulas.words, rule='exact', gamma1=1.5, gamma2=2.5,
                                gamma3=3.5)

# (page, function, its options, loss, formula, the arrays that it depends on)
ADVERSARIAL = [
    (xmc_gan, 'discriminator_losses', {}, 'hinge',
     lambda o: hinge_d(o.d_real.logits[0], o.d_fake.logits[0]),
     ('d_real.logits.0', 'd_fake.logits.0')),
    (xmc_gan, 'generator_losses', {}, 'hinge', lambda o: hinge_g(o.d_fake.logits[0]),
     ('d_fake.logits.0',)),
    (attngan, 'discriminator_losses', {}, 'bce',
     lambda o: bce_d((o.d_real.unconditional[0], o.d_real.logits[0]),
                     (o.d_fake.unconditional[0], o.d_fake.logits[0]), o.d_wrong.logits[0][:-1]),
     ('d_real.logits.0', 'd_real.unconditional.0', 'd_fake.logits.0', 'd_fake.unconditional.0',
      'd_wrong.logits.0')),
    (attngan, 'generator_losses', EXACT, 'bce',
     lambda o: bce_g((o.d_fake.unconditional[0], o.d_fake.logits[0])),
     ('d_fake.logits.0', 'd_fake.unconditional.0')),
    (attngan, 'generator_losses', EXACT, 'kl', lambda o: kl_to_normal(*o.latent),
     ('latent.0', 'latent.1')),
    (ssa_gan, 'discriminator_losses', {}, 'hinge',
     lambda o: hinge_matching_d(o.d_real.logits[0], o.d_fake.logits[0], o.d_wrong.logits[0][:-1]),
     ('d_real.logits.0', 'd_fake.logits.0', 'd_wrong.logits.0')),
    (ssa_gan, 'gradient_penalty', {}, 'ma_gp', lambda o: ma_gp(o.grad_norm_sq),
     ('grad_norm_sq',)),
    (ssa_gan, 'generator_losses', EXACT, 'hinge', lambda o: hinge_g(o.d_fake.logits[0]),
     ('d_fake.logits.0',)),
    *((page, 'discriminator_losses', {}, 'hinge',
       lambda o: hinge_matching_d(o.d_real.logits[0], o.d_fake.logits[0], o.d_wrong.logits[0]),
       ('d_real.logits.0', 'd_fake.logits.0', 'd_wrong.logits.0')) for page in (df_gan, galip)),
    *((page, 'discriminator_losses', {}, 'ma_gp', lambda o: ma_gp(o.grad_norm_sq),
       ('grad_norm_sq',)) for page in (df_gan, galip)),
    (df_gan, 'generator_losses', {}, 'hinge', lambda o: hinge_g(o.d_fake.logits[0]),
     ('d_fake.logits.0',)),
    (galip, 'generator_losses', {}, 'hinge', lambda o: hinge_g(o.d_fake.logits[0]),
     ('d_fake.logits.0',)),
    (galip, 'generator_losses', {}, 'similarity',
     lambda o: -mean_cosine(o.fake_embedding, o.text.sentence),
     ('fake_embedding', 'text.sentence'))]
LABEL_LOSSES = [
    (page, 'encoder_losses', options, 'labels',
     lambda o: sum(label_cross_entropy(x, LABELS) for x in o.label_logits),
     ('label_logits.0', 'label_logits.1')) for page, options in ((damsm, EXACT), (clip, TEMPERED))]
WORD_LABELS = [(
    damsm, 'encoder_losses', EXACT | {'label_rule': 'exact'}, 'supcon_words',
    lambda o: multi_positive(3.5 * damsm_formulas.word_scores(
        o.real_regions, o.text.words, MASK, gamma1=1.5, gamma2=2.5), SAME),
    ('real_regions', 'text.words'))]
CONTRASTS = [
    (xmc_gan, 'discriminator_losses', {}, 'sentence',
     lambda o: nt_xent(o.d_real.features, o.d_real.sentence),
     ('d_real.features', 'd_real.sentence')),
    (xmc_gan, 'discriminator_losses', {}, 'word',
     lambda o: word_loss(o.d_real.regions, o.text.words, MASK), ('d_real.regions', 'text.words')),
    (xmc_gan, 'generator_losses', {}, 'sentence',
     lambda o: nt_xent(o.d_fake.features, o.d_fake.sentence),
     ('d_fake.features', 'd_fake.sentence')),
    (xmc_gan, 'generator_losses', {}, 'word',
     lambda o: word_loss(o.d_fake.regions, o.text.words, MASK), ('d_fake.regions', 'text.words')),
    (xmc_gan, 'generator_losses', {}, 'image',
     lambda o: nt_xent(o.d_fake.features, o.d_real.features),
     ('d_fake.features', 'd_real.features')),
    (xmc_gan, 'generator_losses', {}, 'image_frozen',
     lambda o: nt_xent(o.fake_embedding, o.real_embedding), ('fake_embedding', 'real_embedding')),
    *((page, function, EXACT, 'damsm_words',
       lambda o: words_apart(o.fake_regions, o.text.words, MASK, LABELS),
       ('fake_regions', 'text.words'))
      for page, function in ((_damsm, 'damsm_losses'), (attngan, 'generator_losses'),
                             (ssa_gan, 'generator_losses'))),
    *((page, function, EXACT, 'damsm_sentence',
       lambda o: apart(o.fake_embedding, o.text.sentence, LABELS, gamma3=3.5),
       ('fake_embedding', 'text.sentence'))
      for page, function in ((_damsm, 'damsm_losses'), (attngan, 'generator_losses'),
                             (ssa_gan, 'generator_losses'))),
    (damsm, 'encoder_losses', EXACT, 'words',
     lambda o: words_apart(o.real_regions, o.text.words, MASK, LABELS),
     ('real_regions', 'text.words')),
    (damsm, 'encoder_losses', EXACT, 'sentence',
     lambda o: apart(o.real_embedding, o.text.sentence, LABELS, gamma3=3.5),
     ('real_embedding', 'text.sentence')),
    (clip, 'encoder_losses', TEMPERED, 'contrast',
     lambda o: apart(o.real_embedding, o.text.sentence, LABELS, gamma3=2.0),
     ('real_embedding', 'text.sentence'))]
TABLE = ADVERSARIAL + LABEL_LOSSES + WORD_LABELS + CONTRASTS
PAGES = (attngan, clip, damsm, df_gan, galip, ssa_gan, xmc_gan)


def of_rows(rows):
  """Parameters of a test and their names."""
  return dict(argvalues=rows, ids=[
      f'{row[0].__name__.rpartition(".")[2]}-{row[1]}-{row[3]}' for row in rows])


@pytest.mark.parametrize('page, function, options, name, formula, arrays', **of_rows(TABLE))
def test_a_loss_is_this_formula_of_these_arrays_and_of_nothing_else(
    page, function, options, name, formula, arrays):
  out = outputs()
  loss = lambda out: getattr(page, function)(out, **options)[name]
  value, dependence = value_and_dependence(loss, out)
  np.testing.assert_allclose(value, formula(out), rtol=1e-6)
  assert dependence == set(arrays)
  assert value.dtype == jnp.float32 and value.shape == ()


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.__name__.rpartition('.')[2])
def test_every_loss_of_a_page_is_in_the_table(page):
  functions = [name for name in ('discriminator_losses', 'gradient_penalty', 'generator_losses',
                                 'encoder_losses') if hasattr(page, name)]
  for function in functions:
    options = {'label_rule': 'exact'} if page is damsm else {}
    options |= next(row[2] for row in TABLE if row[:2] == (page, function))
    assert getattr(page, function)(outputs(), **options).keys() == {
        row[3] for row in TABLE if row[:2] == (page, function)}
  assert functions


def test_dm_gan_has_the_losses_of_attngan():
  assert dm_gan.discriminator_losses is attngan.discriminator_losses
  assert dm_gan.generator_losses is attngan.generator_losses


@pytest.mark.parametrize('page, function, options, name, formula, arrays', **of_rows(CONTRASTS))
def test_contrast_within_groups_is_the_mean_over_groups(
    page, function, options, name, formula, arrays):
  out = outputs()
  loss = lambda out, **group: getattr(page, function)(out, **options, **group)[name]
  halves = [loss(jax.tree.map(lambda x, rows=rows: x[rows], out))
            for rows in (slice(0, 2), slice(2, 4))]
  np.testing.assert_allclose(loss(out, group=2), np.mean(halves), rtol=1e-5)
  assert abs(loss(out) - np.mean(halves)) > 1e-2


@pytest.mark.parametrize('page, function, options, name, formula, arrays', **of_rows(
    [row for row in CONTRASTS if row[2]]))
def test_without_a_rule_same_labels_are_negatives(page, function, options, name, formula, arrays):
  out, unmasked = outputs(), options | {'mask_rule': ''}
  found = getattr(page, function)(out, **unmasked)[name]
  distinct = dataclasses.replace(out, batch={'label': jnp.arange(B)})
  np.testing.assert_allclose(found, getattr(page, function)(distinct, **options)[name],
                             rtol=1e-6)
  assert abs(found - getattr(page, function)(out, **options)[name]) > 1e-2


def test_attngans_cross_entropies_sum_over_scales_and_leave_the_last_wrong_pair_out():
  out = outputs(scales=2)
  as_fake = lambda x: np.log1p(np.exp(np.asarray(x, float))).mean()
  discriminator = generator = 0.0
  for i in range(2):
    real, fake = ((d.unconditional[i], d.logits[i]) for d in (out.d_real, out.d_fake))
    discriminator += sum(as_fake(-x) for x in real) / 2
    discriminator += (sum(map(as_fake, fake)) + as_fake(out.d_wrong.logits[i][:3])) / 3
    generator += sum(as_fake(-x) for x in fake)
  np.testing.assert_allclose(attngan.discriminator_losses(out)['bce'], discriminator, rtol=1e-5)
  np.testing.assert_allclose(attngan.generator_losses(out)['bce'], generator, rtol=1e-5)


def with_last_wrong_logit(out, value):
  wrong = tuple(x.at[-1].set(value) for x in out.d_wrong.logits)
  return dataclasses.replace(out, d_wrong=dataclasses.replace(out.d_wrong, logits=wrong))


@pytest.mark.parametrize('page, name, left_out', [
    (attngan, 'bce', True), (ssa_gan, 'hinge', True), (df_gan, 'hinge', False),
    (galip, 'hinge', False)])
def test_whether_the_last_wrong_pair_is_left_out(page, name, left_out):
  low, high = (page.discriminator_losses(with_last_wrong_logit(outputs(), x))[name]
               for x in (-1.0, 9.0))
  assert (low == high) == left_out


def test_the_divergence_by_hand():
  # N(1, 1) in each of two features: -1/2 (1 + 0 - 1 - 1) = 1/2 each, and the mean of them.
  out = dataclasses.replace(outputs(), latent=(jnp.ones((4, 2)), jnp.zeros((4, 2))))
  assert attngan.generator_losses(out)['kl'] == 0.5


def test_without_an_image_network_there_are_no_losses_of_one():
  out = dataclasses.replace(outputs(), real_embedding=None, fake_embedding=None, fake_regions=None,
                            label_logits=())
  assert xmc_gan.generator_losses(out).keys() == {'hinge', 'sentence', 'word', 'image'}
  assert attngan.generator_losses(out).keys() == {'bce', 'kl'}
  assert ssa_gan.generator_losses(out).keys() == {'hinge'}


def test_without_classifiers_and_a_label_rule_encoders_have_no_losses_of_them():
  out = dataclasses.replace(outputs(), label_logits=())
  assert damsm.encoder_losses(out, **EXACT).keys() == {'words', 'sentence'}
  assert clip.encoder_losses(out, temperature=0.5).keys() == {'contrast'}


SCL = dict(rule='exact', temperature=0.5, pairs_temperature=0.1)


@pytest.mark.parametrize('name, formula, arrays', [
    ('supcon_text', lambda text, image, belong: sup_con(text, belong, 0.5), {'text.sentence'}),
    ('supcon_image', lambda text, image, belong: sup_con(image, belong, 0.5), {'real_embedding'}),
    ('unicl', lambda text, image, belong: multi_positive_nce(image, text, belong, 0.1),
     {'text.sentence', 'real_embedding'})])
def test_supervised_losses_of_an_encoder_are_of_all_branches_together(name, formula, arrays):
  branches = outputs(0), outputs(1)
  value, dependence = value_and_dependence(
      lambda *branches: scl.encoder_losses(branches, **SCL)[name], *branches)
  text = jnp.concatenate([out.text.sentence for out in branches])
  image = jnp.concatenate([out.real_embedding for out in branches])
  np.testing.assert_allclose(value, formula(text, image, np.tile(SAME, (2, 2))), rtol=1e-6)
  assert dependence == arrays


# Fakes, real images and captions.
FROZEN = ('fake_embedding', 'real_embedding', 'text.sentence')
DISCRIMINATOR = ('d_fake.features', 'd_real.features', 'd_fake.sentence')


@pytest.mark.parametrize('embedding, paths', [('frozen', FROZEN), ('discriminator', DISCRIMINATOR)])
@pytest.mark.parametrize('more', [False, True])
def test_supervised_losses_of_a_generator_are_of_all_branches_together(embedding, paths, more):
  branches = outputs(0), outputs(1)
  loss = lambda *branches: scl.generator_losses(branches, embedding=embedding, fake_real=more,
                                                unicl=more, **SCL)
  fakes, reals, text = (jnp.concatenate([operator.attrgetter(path)(out) for out in branches])
                        for path in paths)
  belong = np.tile(SAME, (2, 2))
  formulas = {'supcon_fake': (sup_con(fakes, belong, 0.5), {paths[0]})}
  if more:
    formulas['fake_real'] = multi_positive_nce(fakes, reals, belong, 0.1), {paths[0], paths[1]}
    formulas['unicl'] = multi_positive_nce(fakes, text, belong, 0.1), {paths[0], paths[2]}
  assert loss(*branches).keys() == formulas.keys()
  for name, (expected, arrays) in formulas.items():
    value, dependence = value_and_dependence(lambda *b, name=name: loss(*b)[name], *branches)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert dependence == arrays


def test_the_supervised_loss_of_a_discriminator_is_of_real_images():
  branches = outputs(0), outputs(1)
  value, dependence = value_and_dependence(
      lambda *b: scl.discriminator_losses(b, rule='exact', temperature=0.5)['supcon_real'],
      *branches)
  reals = jnp.concatenate([out.d_real.features for out in branches])
  np.testing.assert_allclose(value, sup_con(reals, np.tile(SAME, (2, 2)), 0.5), rtol=1e-6)
  assert dependence == {'d_real.features'}


def test_partners_belong_together_whatever_their_labels():
  branches = [ForwardOutputs({'label': jnp.array(labels)}, None) for labels in ([0, 1], [2, 1])]
  np.testing.assert_array_equal(scl.positives(branches, 'exact'), [
      [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]])
  np.testing.assert_array_equal(scl.positives(branches[:1], 'exact'), np.eye(2))


def test_accuracies_by_hand():
  # Right are real logits above 0 (two of four) and fake ones below (three of four). Embeddings of
  # real images equal those of their captions; each fake has that of the next row's caption.
  unit = jnp.eye(4, D)
  real = DiscriminatorOutput((jnp.array([1.0, 2, -1, 0]),), unit, None, unit)
  fake = DiscriminatorOutput((jnp.array([-1.0, -2, 3, -4]),), jnp.roll(unit, -1, 0), None, unit)
  found = accuracies(ForwardOutputs({}, None, (), real, fake))
  assert found == {'real': 0.5, 'fake': 0.75, 'sentence_real': 1.0, 'sentence_fake': 0.0}


def test_pair_accuracies_are_of_the_last_scale():
  of = lambda *logits: DiscriminatorOutput((jnp.full(4, jnp.nan), jnp.array(logits)))
  out = ForwardOutputs(
    {}, None, (), of(1.0, 1, 1, -1), of(-1.0, 1, 1, 1), d_wrong=of(-1.0, -1, 1, 0)
  )
  assert pair_accuracies(out) == {'real': 0.75, 'fake': 0.25, 'wrong': 0.5}


def test_retrieval_by_hand():
  # Image 2 lies nearest to caption 0, and so does caption 2 to image 0.
  captions, images = jnp.eye(3, D), jnp.eye(3, D).at[2].set(jnp.eye(D)[0] * 0.9)
  out = ForwardOutputs({}, Text(None, None, captions.at[2].set(jnp.eye(D)[0])),
                       real_embedding=images.at[1].set(jnp.eye(D)[1]))
  found = retrieval(out)
  assert found.keys() == {'caption_of_image', 'image_of_caption'}
  np.testing.assert_allclose(list(found.values()), 2 / 3, rtol=1e-6)
