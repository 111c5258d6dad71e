"""Saved configs of earlier versions: keys that came later have their defaults."""
import json

import pytest

from xmc_jax import config as base_config
from xmc_jax import methods
from xmc_jax.configs import scl as scl_config
from xmc_jax.methods import galip, ssa_gan, swift, xmc_gan
from xmc_jax.types import UserError


def saved(config):
  return json.loads(config.to_json_best_effort())


@pytest.mark.parametrize('method', [galip, ssa_gan, swift, xmc_gan])
def test_keys_that_are_newer_than_a_config_have_their_defaults(method):
  old, whole = saved(method.config()), method.config()
  for section in ('model', 'text', 'terms'):
    for key in list(old[section])[1:]:
      del old[section][key]
  found = methods.complete(old, 'config.json')
  for section in ('model', 'text', 'terms'):
    assert found[section] == whole[section]
  methods.find(found, 'method')


def test_what_a_config_says_stays():
  config = swift.config()
  config.model.refine, config.text.length, config.terms.kl = 3, 11, 7.0
  old = saved(config)
  del old['model']['layout']
  found = methods.complete(old, 'config.json')
  assert (found.model.refine, found.text.length, found.terms.kl) == (3, 11, 7)
  assert found.model.layout == 0


def test_a_setting_of_an_optimizer_that_was_left_out_stays_so():
  old = saved(xmc_gan.config())
  del old['optim']['g']['b1']
  assert 'b1' not in methods.complete(old, 'config.json').optim.g


def test_an_extension_has_the_keys_of_what_it_extends():
  old = saved(scl_config.get_config('ssa_gan_emoji'))
  size = old['model'].pop('size')
  assert methods.complete(old, 'config.json').model.size == ssa_gan.config().model.size != size


def test_a_method_that_is_not_known_is_left_to_those_who_build_it():
  old = saved(base_config.base()) | {'method': 'pixel_gan'}
  with pytest.raises(UserError, match='pixel_gan: unknown method'):
    methods.build(methods.complete(old, 'config.json'))
