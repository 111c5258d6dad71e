"""From networks and loss functions to a phase: weights, names, branches, statistics."""
import dataclasses

import jax
import jax.numpy as jnp
import pytest

from xmc_jax.data.views import one_view
from xmc_jax.methods._steps import Extension, make_phase, shared_fakes
from xmc_jax.types import UserError

pytestmark = pytest.mark.usefixtures('strict')


@dataclasses.dataclass(frozen=True)
class Counting:
  """Networks whose outputs are the rows and keys, and whose statistics count the branches."""

  def forward(self, params, stats, frozen, batch, rngs):
    outputs = {'x': params['a'] * batch['x'] + frozen['shift'], 'rngs': rngs, 'seen': stats['a']}
    return outputs, stats | {'a': stats['a'] + 1}


class Halves:
  """The same rows generated once by g and then judged by d; statistics count what each ran."""

  def generate(self, params, stats, frozen, batch, rngs):
    return {'x': params['g'] * batch['x'], 'rngs': rngs}, stats | {'g': stats['g'] + 1}

  def discriminate(self, params, stats, frozen, generated):
    return generated | {'x': params['d'] * generated['x']}, stats | {'d': stats['d'] + 1}


def total(out):
  return {'sum': out['x'].sum()}


def both(out):
  return {'sum': out['x'].sum(), 'first': out['x'][0]}


ARGUMENTS = ({'a': jnp.float32(2), 'b': jnp.float32(1)}, {'a': jnp.int32(0), 'b': 'untouched'},
             {'shift': jnp.float32(1)}, {'x': jnp.array([1.0, 2])})


def outcome(losses=None, weights=None, **options):
  """Of a phase on the rows (1, 2), which the networks map to 2 x + 1 = (3, 5)."""
  losses = losses or {'a': total}
  phase = make_phase('phase', losses, weights or {'sum': 1.0}, Counting(), **options)
  assert (phase.name, phase.updates) == ('phase', tuple(losses))
  return phase.forward(*ARGUMENTS, jax.random.key(0))


def mirrored(batch):
  """Two branches: the rows, and their negatives."""
  return batch, {'x': -batch['x']}


def test_a_loss_is_the_weighted_sum_of_the_named_losses():
  out = outcome({'a': both}, {'sum': 0.5, 'first': 2.0})      # 0.5 * (3 + 5) + 2 * 3
  assert out.losses == {'a': 10.0}
  assert out.metrics == {'a/sum': 4.0, 'a/first': 6.0}


def test_a_loss_of_weight_zero_is_left_out():
  out = outcome({'a': both}, {'sum': 1.0, 'first': 0.0})
  assert out.metrics.keys() == {'a/sum'} and out.losses == {'a': 8.0}


def test_a_loss_of_weight_zero_is_not_computed():
  losses = lambda out: {'sum': out['x'].sum(), 'wave': jnp.sin(out['x']).sum()}

  def program(wave):
    phase = make_phase('phase', {'a': losses}, {'sum': 1.0, 'wave': wave}, Counting())
    params, stats, *rest = ARGUMENTS

    def run(params):
      return phase.forward(params, stats, *rest, jax.random.key(0)).losses['a']
    return jax.jit(jax.grad(run)).lower(params).as_text()
  assert 'cosine' in program(1.0) and 'cosine' not in program(0.0)


@pytest.mark.parametrize('network', ['a', 'b'])
def test_a_network_without_any_loss_is_the_users_mistake(network):
  losses = {'a': total, 'b': total} | {network: lambda out: {'first': out['x'][0]}}
  with pytest.raises(UserError, match=rf'{network!r}.* weight 0; .*: --config.terms.first$'):
    outcome(losses, {'sum': 1.0, 'first': 0.0})


def test_a_loss_without_a_weight_in_the_config_is_an_error():
  with pytest.raises(KeyError, match='first'):
    outcome({'a': both}, {'sum': 1.0})


def test_each_network_has_losses_of_its_own():
  out = outcome({'a': total, 'b': lambda out: {'first': out['x'][0]}}, {'sum': 1.0, 'first': 1.0})
  assert out.losses == {'a': 8.0, 'b': 3.0}
  assert out.metrics == {'a/sum': 8.0, 'b/first': 3.0}


def test_losses_sum_over_branches():
  out = outcome({'a': both}, {'sum': 0.5, 'first': 2.0}, extension=Extension(mirrored))
  assert out.metrics == {'a/sum': 0.5 * (8 - 4), 'a/first': 2.0 * (3 - 1)}
  assert out.losses == {'a': 6.0}


def test_losses_of_an_extension_see_all_branches_and_have_its_weights():
  product = lambda branches: {'product': branches[0]['x'][0] * branches[1]['x'][1],
                              'off': branches[0]['x'][0]}
  extension = Extension(mirrored, {'a': product}, {'product': 0.5, 'off': 0.0})
  out = outcome(extension=extension)
  assert out.metrics == {'a/sum': 4.0, 'a/product': 0.5 * 3 * -3}
  assert out.losses == {'a': -0.5}


def test_an_extension_adds_to_the_networks_that_it_names_alone():
  extension = Extension(losses={'b': lambda branches: {'count': jnp.float32(len(branches))}},
                        weights={'count': 3.0})
  out = outcome({'a': total, 'b': total}, extension=extension)
  assert out.metrics == {'a/sum': 8.0, 'b/sum': 8.0, 'b/count': 3.0}
  assert out.losses == {'a': 8.0, 'b': 11.0}
  assert outcome({'a': total}, extension=extension).losses == {'a': 8.0}


def test_an_extension_may_give_a_network_its_only_loss():
  extension = Extension(losses={'a': lambda branches: {'count': jnp.float32(len(branches))}},
                        weights={'count': 3.0})
  assert outcome(weights={'sum': 0.0}, extension=extension).losses == {'a': 3.0}


def test_diagnostics_are_metrics_of_the_first_branch_and_no_loss():
  out = outcome(extension=Extension(mirrored), diagnostics=lambda out: {'first': out['x'][0]})
  assert out.metrics == {'a/sum': 4.0, 'accuracy/first': 3.0} and out.losses == {'a': 4.0}


def test_branches_run_in_turn_with_statistics_threaded_and_keys_of_their_own():
  seen = []
  outcome({'a': lambda out: seen.append(out) or total(out)}, extension=Extension(mirrored))
  first, second = seen
  assert (first['x'].tolist(), second['x'].tolist()) == ([3, 5], [-1, -3])
  assert (first['seen'], second['seen']) == (0, 1)
  assert not jnp.array_equal(*(jax.random.key_data(out['rngs']) for out in seen))


def test_statistics_of_the_last_branch_come_out_beside_the_untouched():
  out = outcome(extension=Extension(lambda batch: (batch, batch, batch)))
  assert out.stats == {'a': 3, 'b': 'untouched'}


def test_phases_that_share_fakes_judge_them_branch_by_branch():
  networks, extension, seen = Halves(), Extension(mirrored), []
  shared = shared_fakes(networks, extension)
  params, stats = {'g': jnp.float32(3), 'd': jnp.float32(2)}, {'g': 0, 'd': 0}
  rows, rng = {'x': jnp.array([1.0, 2])}, jax.random.key(0)
  generated, g_stats = shared.run(params, stats, {}, rows, rng)
  assert shared.network == 'g' and g_stats == 2
  phase = make_phase('phase', {'d': lambda out: seen.append(out) or total(out)}, {'sum': 1.0},
                     networks, extension=extension, shared=shared)
  assert phase.shared is shared
  out = phase.forward(params, stats, {}, rows, rng, generated)
  assert [out['x'].tolist() for out in seen] == [[6, 12], [-6, -12]]
  assert out.stats == {'d': 2}
  first, second = (jax.random.key_data(out['rngs']).tolist() for out in seen)
  assert len(first) == 2 and first[0] not in (first[1], *second)


def test_one_view_is_the_batch():
  batch = {'x': 1}
  assert one_view(batch) == (batch,)
