"""Who belongs to whom by labels: by hand, and against Python's sets."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.losses.positives import positive_pairs
from xmc_jax.types import LABEL_RULES, UserError

# Rows: {0, 1}, {0, 1}, {1}, {2}, nothing. The amounts say that class 1 dominates rows 0, 2 and
# class 0 row 1.
LABELS = np.float32([[0.2, 0.7, 0], [0.6, 0.3, 0], [0, 0.4, 0], [0, 0, 1], [0, 0, 0]])


@pytest.mark.parametrize('rule, together', [
    ('exact', {(0, 1): 1}),
    ('overlap', {(0, 1): 1, (0, 2): 1, (1, 2): 1}),
    ('dominant', {(0, 2): 1}),
    ('jaccard', {(0, 1): 1, (0, 2): 0.5, (1, 2): 0.5})])
def test_rules_by_hand(rule, together):
  expected = np.diag([1.0, 1, 1, 1, 0])
  for (i, j), weight in together.items():
    expected[i, j] = expected[j, i] = weight
  found = positive_pairs(jnp.array(LABELS), rule)
  np.testing.assert_array_equal(found, expected)
  assert found.dtype == (jnp.float32 if rule == 'jaccard' else jnp.bool_)


def of_sets(a, b, rule):
  return {'exact': bool(a) and a == b, 'overlap': bool(a & b),
          'jaccard': len(a & b) / max(len(a | b), 1)}[rule]


@pytest.mark.parametrize('rule', ['exact', 'overlap', 'jaccard'])
def test_rules_are_those_of_sets(rule):
  labels = (toys.numbers(0).random((40, 4)) < 0.4).astype(np.float32)
  sets = [set(np.flatnonzero(row).tolist()) for row in labels]
  expected = [[of_sets(a, b, rule) for b in sets] for a in sets]
  assert {len(s) for s in sets} >= {0, 1, 2, 3}
  np.testing.assert_allclose(positive_pairs(jnp.array(labels), rule), expected, rtol=1e-6)


@pytest.mark.parametrize('rule', [rule for rule in LABEL_RULES if rule != 'self'])
def test_single_classes_are_the_same_under_every_rule(rule):
  classes = np.array([3, 1, 3, 0, 1, 2])
  expected = [[a == b for b in classes] for a in classes]
  np.testing.assert_array_equal(positive_pairs(jnp.array(classes), rule), expected)
  one_hot = jax.nn.one_hot(jnp.array(classes), 4)
  np.testing.assert_array_equal(positive_pairs(one_hot, rule), expected)


def test_self_looks_at_no_label():
  for labels in (jnp.zeros(3, jnp.int32), jnp.array(LABELS[:3])):
    np.testing.assert_array_equal(positive_pairs(labels, 'self'), np.eye(3))


def test_default_is_the_exact_rule():
  np.testing.assert_array_equal(positive_pairs(jnp.array(LABELS)),
                                positive_pairs(jnp.array(LABELS), 'exact'))


def test_unknown_rule_is_named():
  with pytest.raises(UserError, match="label rule 'same': .* exact, overlap, dominant, jaccard"):
    positive_pairs(jnp.arange(3), 'same')
