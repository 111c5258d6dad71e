"""From backbone and terms to a phase: weights, names, branches, statistics."""
import dataclasses

import jax
import jax.numpy as jnp
import pytest

from xmc_jax.data.views import one_view
from xmc_jax.losses.terms import Term
from xmc_jax.methods._phases import play, shared_fakes

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('strict')]


@dataclasses.dataclass(frozen=True)
class Counting:
  """A backbone whose branch is its rows and rng, and whose statistics count the branches."""

  def forward(self, params, stats, frozen, batch, rng):
    outputs = {'x': params['a'] * batch['x'] + frozen['shift'], 'rng': rng, 'seen': stats['a']}
    return outputs, stats | {'a': stats['a'] + 1}


def outcome(updates=('a',), terms=None, batch=None, **options):
  terms = terms or {p: (Term('sum', 1.0, lambda bs: sum(b['x'].sum() for b in bs)),)
                    for p in updates}
  phase = play('phase', updates, Counting(), terms, **options)
  assert (phase.name, phase.updates) == ('phase', updates)
  return phase.forward({'a': jnp.float32(2), 'b': jnp.float32(1)},
                       {'a': jnp.int32(0), 'b': 'untouched'}, {'shift': jnp.float32(1)},
                       batch or {'x': jnp.array([1.0, 2])}, jax.random.key(0))


class Halves:
  """The same rows generated once by g and then judged; statistics count draws and branches."""

  def generate(self, params, stats, frozen, batch, rng):
    return {'x': params['g'] * batch['x'], 'rng': rng}, stats | {'g': stats['g'] + 1}

  def discriminate(self, params, stats, frozen, generated):
    return generated | {'x': params['d'] * generated['x']}, stats | {'d': stats['d'] + 1}


def test_phases_with_a_draw_judge_what_it_gave_view_by_view():
  networks, seen = Halves(), []
  shared = shared_fakes(networks, lambda batch: (batch, {'x': -batch['x']}))
  params, stats = {'g': jnp.float32(3), 'd': jnp.float32(2)}, {'g': 0, 'd': 0}
  rows, rng = {'x': jnp.array([1.0, 2])}, jax.random.key(0)
  generated, g_stats = shared.run(params, stats, {}, rows, rng)
  assert shared.network == 'g' and g_stats == 2
  term = Term('sum', 1.0, lambda bs: seen.extend(bs) or sum(b['x'].sum() for b in bs))
  phase = play('phase', ('d',), networks, {'d': (term,)}, shared=shared)
  assert phase.shared is shared
  out = phase.forward(params, stats, {}, rows, rng, generated)
  assert [b['x'].tolist() for b in seen] == [[6, 12], [-6, -12]]
  assert out.stats == {'d': 2}
  first, second = (jax.random.key_data(b['rng']).tolist() for b in seen)
  assert len(first) == 2 and first[0] not in (first[1], *second)


def never(branches):
  raise AssertionError('a term of weight 0 was built')


def test_a_loss_is_the_weighted_sum_of_its_terms():
  # x = 2 * (1, 2) + 1 = (3, 5):  0.5 * (3 + 5) + 2 * 3 = 10
  out = outcome(terms={'a': (Term('sum', 0.5, lambda bs: bs[0]['x'].sum()),
                             Term('first', 2.0, lambda bs: bs[0]['x'][0]))})
  assert out.losses == {'a': 10.0}
  assert out.metrics == {'a/sum': 4.0, 'a/first': 6.0}


def test_a_term_of_weight_zero_is_not_built():
  terms = {'a': (Term('sum', 1.0, lambda bs: bs[0]['x'].sum()), Term('off', 0.0, never))}
  assert outcome(terms=terms).metrics.keys() == {'a/sum'}


def test_players_that_are_not_updated_have_no_loss():
  terms = {'a': (Term('sum', 1.0, lambda bs: bs[0]['x'].sum()),), 'b': (Term('x', 1.0, never),)}
  assert outcome(terms=terms).losses.keys() == {'a'}
  both = {p: (Term('sum', 1.0, lambda bs: bs[0]['x'].sum()),) for p in 'ab'}
  assert outcome(('a', 'b'), both).losses.keys() == {'a', 'b'}


def test_meters_are_metrics_and_no_loss():
  out = outcome(diagnostics=lambda bs: {'rows': bs[0]['x'].size})
  assert out.metrics == {'a/sum': 8.0, 'accuracy/rows': 2} and out.losses == {'a': 8.0}


def test_branches_run_in_turn_with_statistics_threaded_and_rngs_of_their_own():
  seen = []
  outcome(terms={'a': (Term('look', 1.0, lambda bs: seen.extend(bs) or jnp.float32(0)),)},
          split=lambda batch: (batch, {'x': -batch['x']}))
  first, second = seen
  assert (first['x'].tolist(), second['x'].tolist()) == ([3, 5], [-1, -3])
  assert (first['seen'], second['seen']) == (0, 1)
  assert not jnp.array_equal(*(jax.random.key_data(b['rng']) for b in seen))


def test_statistics_of_the_last_branch_come_out_beside_the_untouched():
  out = outcome(split=lambda batch: (batch, batch, batch))
  assert out.stats == {'a': 3, 'b': 'untouched'}


def test_one_view_is_the_batch():
  batch = {'x': 1}
  assert one_view(batch) == (batch,)
