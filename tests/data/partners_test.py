"""Partners against the weights of all pairs, written down slowly from Python's sets."""
import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from xmc_jax import config
from xmc_jax.data import arrays, partners
from xmc_jax.data.partners import Partners
from xmc_jax.data.plan import plan
from xmc_jax.losses import positives
from xmc_jax.types import LABEL_RULES, UserError

COLUMNS = [0, 31, 63, 64, 129]   # of five classes among 130
BY_LABEL = [rule for rule in LABEL_RULES if rule != 'self']
EVERY_RULE = pytest.mark.parametrize('rule', BY_LABEL)


class Toy:
  """Images that say their number in their pixels and in each of their captions."""
  name, size, class_names, images = 'toy', 8, (), None

  def __init__(self, labels, captions=1, flippable=True):
    self.labels, self.number, self.flippable = labels, captions, flippable

  def __len__(self):
    return len(self.labels)

  def image(self, index, crop):
    return np.full((8, 8, 3), index, np.uint8)

  def captions(self, index):
    return tuple(f'{index},{"abcdef"[i]}' for i in range(self.number))

  def label(self, index):
    return self.labels[index]


class Plain:
  """Hands captions on in place of word pieces."""

  def encode(self, captions, draws):
    return np.array(captions), np.ones(len(captions), bool)


def make_labels(images, seed=0):
  """Amounts of five classes, many of them absent; in the first rows, cases of their own."""
  random = np.random.default_rng(seed)
  amounts = random.random((images, 5)) * (random.random((images, 5)) < 0.35)
  amounts[:6] = [[0, 0, 0, 0, 0],            # no class
                 [0.1, 0.2, 0.3, 0.4, 0.5],  # all
                 [0, 0, 0, 0, 1],
                 [0, 0.5, 0.5, 0, 0],        # two as large: the first dominates
                 [0, 0.1, 0, 0, 0],
                 [0, 0, 0.1, 0, 0]]
  labels = np.zeros((images, 130), np.float32)
  labels[:, COLUMNS] = amounts
  return labels


def weight(a, b, rule):
  """Of a pair of rows of amounts."""
  sets = [{int(i) for i in np.flatnonzero(row)} for row in (a, b)]
  if not all(sets):
    return 0
  if rule == 'dominant':
    return int(max(sets[0], key=lambda i: (a[i], -i)) == max(sets[1], key=lambda i: (b[i], -i)))
  shared, either = len(sets[0] & sets[1]), len(sets[0] | sets[1])
  return {'exact': int(shared == either), 'overlap': int(shared > 0),
          'jaccard': shared / either}[rule]


def weights(labels, rule):
  """Of all pairs; an image has none with itself."""
  return np.array([[0 if i == j else weight(a, b, rule) for j, b in enumerate(labels)]
                   for i, a in enumerate(labels)], float)


def make(labels, rule):
  return partners.find(Toy(labels), rule)


def assert_drawn_from(expected, drawn):
  """Chi-square of the counts `drawn[i]` under the probabilities `expected[i]`, all i together."""
  assert not drawn[expected == 0].any()
  mean = expected * drawn.sum(1, keepdims=True)
  assert mean[expected > 0].min() > 5
  statistic = (((drawn - mean) ** 2)[expected > 0] / mean[expected > 0]).sum()
  freedom = ((expected > 0).sum(1) - 1).sum()
  assert abs(statistic - freedom) < 4 * np.sqrt(2 * freedom), 'the statistic is out of bounds'


@EVERY_RULE
@pytest.mark.parametrize('tries', [0, 1, partners.TRIES])
def test_partners_are_drawn_as_the_weights_say(rule, tries, monkeypatch):
  monkeypatch.setattr(partners, 'TRIES', tries)
  labels, number = make_labels(24), 4000 if tries > 1 else 1000
  expected = weights(labels, rule)
  alone = expected.sum(1) == 0
  assert alone[0] and 1 <= alone.sum() < 12
  expected[alone] = np.eye(24)[alone]
  expected /= expected.sum(1, keepdims=True)
  drawn = make(labels, rule).sample(np.repeat(np.arange(24), number).reshape(24, number), 0, 0)
  assert drawn.shape == (24, number) and drawn.dtype == np.int64
  assert_drawn_from(expected, np.array([np.bincount(row, minlength=24) for row in drawn]))


def test_the_comparison_sees_a_wrong_distribution():
  """Proposals that are all accepted lie off the weights by more than the bound."""
  labels = make_labels(24)
  expected = weights(labels, 'jaccard')
  rows = np.flatnonzero(expected.sum(1))
  expected = expected[rows] / expected[rows].sum(1, keepdims=True)
  partner = make(labels, 'jaccard')
  def counts():
    drawn = partner.sample(np.tile(rows[:, None], (1, 4000)), 0, 0)
    return np.array([np.bincount(row, minlength=24) for row in drawn])
  assert_drawn_from(expected, counts())
  partner._acceptance = lambda anchors, proposed: np.ones(len(anchors))
  with pytest.raises(AssertionError, match='statistic'):
    assert_drawn_from(expected, counts())


def test_classes_below_zero_are_refused():
  with pytest.raises(UserError, match='the label of image 1 is below 0'):
    make(np.array([3, -1, 3], np.int32), 'exact')


@EVERY_RULE
def test_single_classes_are_the_same_under_every_rule(rule):
  labels = np.array([3, 100_000, 3, 0, 100_000, 2, 3], np.int32)
  drawn = make(labels, rule).sample(np.tile(np.arange(7), (300, 1)), 0, 0)
  together = [set(column.tolist()) for column in drawn.T]
  assert together == [{2, 6}, {4}, {0, 6}, {3}, {1}, {5}, {0, 2}]
  assert 100 < (drawn[:, 0] == 2).sum() < 200


@EVERY_RULE
def test_without_any_label_all_are_their_own(rule):
  for labels in (np.zeros((4, 3), np.float32), np.zeros((4, 0), np.float32)):
    partner = make(labels, rule)
    np.testing.assert_array_equal(partner.sample(np.arange(4), 0, 0), np.arange(4))
    assert (partner.alone(), partner.mean_weight()) == (1, 0)


@EVERY_RULE
def test_statistics(rule):
  labels = make_labels(300)
  expected, partner = weights(labels, rule), make(labels, rule)
  near = 1e-9 if rule in ('exact', 'dominant') else 0.08
  mean, alone = partner.mean_weight(), partner.alone()
  np.testing.assert_allclose(mean, expected.sum() / 300, rtol=near)
  np.testing.assert_allclose(alone, (expected.sum(1) == 0).mean())
  said = partner.summary()
  assert rule in said and f'{mean:,.1f}' in said and f'{alone:.1%}' in said


def test_labels_are_read_without_zeros(monkeypatch):
  monkeypatch.setattr(partners, 'BLOCK', 7)
  labels = make_labels(24)
  read = partners.read_labels(Toy(labels))
  rebuilt = np.zeros_like(labels)
  rebuilt[read.image, read.kind] = read.amount
  np.testing.assert_array_equal(rebuilt, labels)
  assert len(read.image) == (labels > 0).sum() and read.images == 24


@EVERY_RULE
def test_a_row_depends_on_its_own_anchor_alone(rule):
  partner, random = make(make_labels(200), rule), np.random.default_rng(1)
  one, two = random.integers(0, 200, (2, 4, 30))
  two[2, 11:14] = one[2, 11:14]
  same = np.zeros((4, 30), bool)
  same[2, 11:14] = True
  drawn = partner.sample(one, 5, 9), partner.sample(two, 5, 9)
  np.testing.assert_array_equal(drawn[0][same], drawn[1][same])
  assert (drawn[0] != drawn[1]).any()
  np.testing.assert_array_equal(partner.sample(one, 5, 9), drawn[0])
  assert (partner.sample(one, 6, 9) != drawn[0]).any()
  assert (partner.sample(one, 5, 10) != drawn[0]).any()


def test_captions_flips_and_crops_are_the_partners_own():
  allowed = np.arange(50) % 2 == 0
  partner = partners.find(Toy(make_labels(50), flippable=allowed), 'overlap')
  anchors = plan(50, allowed, 0, 3, 2, 500)
  second = partner.plan(anchors, 0, 3)
  assert [a.shape for a in second.leaves()] == [a.shape for a in anchors.leaves()]
  assert [a.dtype for a in second.leaves()] == [a.dtype for a in anchors.leaves()]
  both = allowed[anchors.index] & allowed[second.index]
  for one, two in ((anchors.caption, second.caption), (anchors.crop, second.crop),
                   (anchors.flip[both], second.flip[both]), second.crop.reshape(-1, 2).T):
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.15
  assert second.flip.any() and allowed[second.index[second.flip]].all()
  assert abs(second.flip[allowed[second.index]].mean() - 0.5) < 0.08


@pytest.mark.parametrize('captions', [1, 2, 4])
def test_its_own_partner_has_another_caption(captions):
  source = Toy(np.zeros((9, 3), np.float32), captions)
  partner = partners.find(source, 'exact')
  anchors = plan(9, True, 2, 0, 2, 600)
  batch = arrays.make_batch(source, Plain(), anchors, partner.plan(anchors, 2, 0))
  one, two = (np.char.partition(batch[key], ',') for key in ('tokens', 'partner_tokens'))
  np.testing.assert_array_equal(one[..., 0], two[..., 0])
  pairs = {(a, b): ((one[..., 2] == a) & (two[..., 2] == b)).sum()
           for a in 'abcd'[:captions] for b in 'abcd'[:captions]}
  other = 1200 / (captions * (captions - 1)) if captions > 1 else 0
  for (a, b), found in pairs.items():
    expected = 1200 if captions == 1 else other * (a != b)
    assert abs(found - expected) <= 0.25 * expected


def test_another_images_caption_is_any():
  source = Toy(np.zeros(2, np.int32), captions=2)
  anchors = plan(2, True, 2, 0, 1, 800)
  batch = arrays.make_batch(source, Plain(), anchors,
                            partners.find(source, 'exact').plan(anchors, 2, 0))
  np.testing.assert_array_equal(batch['partner_image'][..., 0, 0, 0], 1 - anchors.index)
  one, two = (np.char.partition(batch[key], ',')[..., 2] for key in ('tokens', 'partner_tokens'))
  assert abs((one == two).mean() - 0.5) < 0.07


@EVERY_RULE
def test_partners_are_positive_by_the_rule_of_the_losses(rule):
  labels = make_labels(60)
  found = np.asarray(positives.positive_pairs(jnp.array(labels), rule))
  drawn = make(labels, rule).sample(np.arange(60), 0, 0)
  others = drawn != np.arange(60)
  assert others.sum() > 30 and (found[np.arange(60), drawn][others] > 0).all()


def test_under_self_all_are_their_own_partners():
  for labels in (make_labels(20), np.zeros(20, np.int32)):
    found = make(labels, 'self')
    assert found.alone() == 1 and (found.sample(np.arange(20), 0, 0) == np.arange(20)).all()


def test_every_part_knows_every_rule():
  settings = config.base()
  assert settings.data.partners == ''
  for rule in LABEL_RULES:
    assert positives.positive_pairs(jnp.ones((2, 3)), rule).shape == (2, 2)
    alone = Partners(partners.read_labels(Toy(np.zeros(2, np.int32))), rule).alone()
    assert alone == (rule == 'self')
    settings.data.partners = rule
    config.check(settings)
  settings.data.partners = 'same'
  with pytest.raises(UserError, match="data.partners=same: choose one of '', exact, overlap"):
    config.check(settings)


def test_no_rule_and_unknown_rules():
  source = Toy(np.zeros(2, np.int32))
  source.label = None                        # no label is read where no partner is wanted
  assert partners.find(source, '') is None
  with pytest.raises(UserError, match='partners=same: choose one of exact, overlap, dominant'):
    Partners(partners.read_labels(Toy(np.zeros(2, np.int32))), 'same')


def test_the_benchmark_prints_one_line_a_rule():
  done = subprocess.run([sys.executable, tiny.ROOT / 'benchmarks' / 'partners.py', '--images',
                         '500', '--rows', '8', '--steps', '2'], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  lines = [json.loads(line) for line in done.stdout.splitlines()]
  assert [line['rule'] for line in lines] == [*LABEL_RULES]
  assert all(line['microseconds_a_row'] > 0 and 2 < line['labels_a_image'] < 3.5
             for line in lines)
