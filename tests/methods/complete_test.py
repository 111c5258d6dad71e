"""Saved configs of earlier versions: keys that came later have their defaults."""
import json

import pytest
from toy_methods import quick

from xmc_jax import config as base_config
from xmc_jax import methods
from xmc_jax.cli import config_file
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


@pytest.mark.parametrize('name', [
    'emoji64', 'swift_scenes64', 'clip_emoji', 'galip_emoji', 'damsm_emoji', 'attngan_emoji',
    'dm_gan_emoji', 'df_gan_emoji', 'ssa_gan_emoji', 'scl:swift_emoji64', 'scl:galip_emoji'])
def test_a_saved_config_comes_back_as_it_was(name):
  config = config_file.load(name)
  assert base_config.flat(saved(methods.complete(saved(config), 'x'))) == base_config.flat(
      saved(config))


def test_what_a_config_says_stays():
  config = swift.config()
  config.model.refine, config.text.length, config.terms.kl = 3, 11, 7.0
  old = saved(config)
  del old['model']['attention']
  found = methods.complete(old, 'config.json')
  assert (found.model.refine, found.text.length, found.terms.kl) == (3, 11, 7)
  assert found.model.attention == 0


def test_a_setting_of_an_optimizer_that_was_left_out_stays_so():
  old = saved(xmc_gan.config())
  del old['optim']['g']['b1']
  assert 'b1' not in methods.complete(old, 'config.json').optim.g


def test_an_extension_has_the_keys_of_what_it_extends():
  old = saved(scl_config.get_config('ssa_gan_emoji'))
  size = old['model'].pop('size')
  assert methods.complete(old, 'config.json').model.size == ssa_gan.config().model.size != size


@pytest.mark.parametrize('name, words', [
    ('pixel_gan', 'unknown method; choose one of .*xmc_gan'),
    ('no_such.module', 'no_such.module cannot be imported .*choose one of'),
    ('xmc_jax.types', r'has no function build\(config\); choose one of')])
def test_a_method_that_is_not_there_is_refused(name, words):
  old = saved(base_config.base()) | {'method': name}
  with pytest.raises(UserError, match=f'config.json: --config.method={name}: .*{words}'):
    methods.complete(old, 'config.json')


def test_a_method_of_the_users_is_found_by_its_import_path():
  old = saved(quick.config())
  del old['model']['z_features']
  config = methods.complete(old, 'config.json')
  assert config.model.z_features == 16 and methods.find(config, 'method') is quick
