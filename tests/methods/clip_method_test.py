"""CLIP's method: which parameters learn from what, on any devices, and what a run leaves."""
import functools
import shutil

import jax
import numpy as np
import optax
import pytest
import tiny
import toys

from xmc_jax import methods
from xmc_jax.config import check
from xmc_jax.encoders import clip, clip_inputs, clip_tokens
from xmc_jax.methods import clip as method_of_clip
from xmc_jax.methods import galip
from xmc_jax.networks.clip import heads, without_heads
from xmc_jax.sampling import TextToImage
from xmc_jax.trainer import train
from xmc_jax.training.mesh import make_mesh, put_rows
from xmc_jax.training.program import Program
from xmc_jax.types import UserError

pytestmark = pytest.mark.slow

tool = tiny.script('tools/clip_goldens.py')
SETTINGS = {'batch_size': 8, 'model.size': 16, 'model.trained': 'all', 'text.encoder': '',
            'text.length': toys.LENGTH, 'clip.side': 16, 'clip.patch': 4, 'clip.width': 64,
            'clip.layers': 1, 'clip.text_width': 64, 'clip.text_layers': 1, 'clip.pieces': 13,
            'clip.features': 6, 'terms.contrast_temperature': 0.5}
SUPERVISED = {'data.partners': 'exact', 'terms.supcon_text': 1.0, 'terms.supcon_image': 1.0,
              'terms.unicl': 1.0, 'terms.labels': 1.0, 'model.classes': 3}


def small(**settings):
  config = method_of_clip.config().unlock()
  config.update_from_flattened_dict(SETTINGS | settings)
  return config


@pytest.fixture(name='folder', scope='module')
def _folder(tmp_path_factory):
  text = tool.QUICK['text_config'] | {'vocab_size': 514 + len(tool.MERGES)}
  return tool.write(tmp_path_factory.mktemp('clip'), tool.QUICK | {'text_config': text})


def tuned(folder, **settings):
  """Of a CLIP of 14 px that there is, the heads."""
  return small(**{'text.encoder': str(folder), 'model.trained': 'heads', **settings})


def batch(method, seed=0):
  found = {}
  for i, prefix in enumerate(('', 'partner_')):
    if f'{prefix}image' in method.batch_spec:
      found |= {f'{prefix}{k}': v for k, v in toys.batch(method.batch_spec, 2 * seed + i).items()}
  labels = toys.numbers(seed).integers(0, 3, (1, 8)).astype(np.int32)
  return {k: found.get(k, labels) for k in method.batch_spec}


def program_of(method, devices=1):
  return Program(method.objective, {'encoder': optax.sgd(0.05)}, 0.0, method.frozen_spec,
                 method.batch_spec, make_mesh(jax.devices()[:devices]))


def run(config, devices=1, steps=2):
  """Parameters before and after some steps, metrics of the last, on the host."""
  method = methods.build(config)
  program = program_of(method, devices)
  compiled, frozen = program.compile(), program.put_frozen(method.load_frozen())
  state = program.init(0)
  first, metrics = jax.device_get(state.networks['encoder'].params), {}
  for step in range(steps):
    state, metrics = compiled(state, frozen, put_rows(batch(method, step), program.rows))
  return first, jax.device_get(state.networks['encoder'].params), jax.device_get(metrics)


def forward(config, seed=0):
  """Metrics of the phase's forward pass at the start."""
  method = methods.build(config)
  rows = {k: v[0] for k, v in batch(method, seed).items()}
  params = {'encoder': method.objective.init(jax.random.key(0), rows)['encoder']['params']}
  return jax.jit(lambda *x: method.objective.rounds[0][0].forward(*x).metrics)(
      params, {'encoder': {}}, method.load_frozen(), rows, jax.random.key(0))


@pytest.mark.parametrize('settings, names, keys', [
    ({}, set(), {'label'}),
    ({'terms.mask_same_class': False}, set(), set()),
    ({'data.partners': 'self', 'terms.mask_same_class': False}, set(), set()),
    (SUPERVISED, {'supcon_text', 'supcon_image', 'unicl', 'labels'}, {'label'})])
def test_losses_and_the_batch_that_they_need(settings, names, keys):
  method = methods.build(small(**settings))
  assert [[(p.name, p.updates) for p in phases] for phases in method.objective.rounds] == [
      [('match', ('encoder',))]]
  keys = {'image', 'tokens', 'mask'} | keys
  assert set(method.batch_spec) == keys | ({f'partner_{key}' for key in keys}
                                           if 'data.partners' in settings else set())
  rows = {k: jax.ShapeDtypeStruct(v.shape[1:], v.dtype) for k, v in method.batch_spec.items()}
  params = jax.eval_shape(method.objective.init, jax.random.key(0), rows)['encoder']['params']
  assert ('classifiers' in params) == ('labels' in names)
  metrics = jax.eval_shape(lambda *x: method.objective.rounds[0][0].forward(*x).metrics,
                           {'encoder': params}, {'encoder': {}}, {}, rows, jax.random.key(0))
  assert metrics.keys() == {
      'encoder/contrast', *(f'encoder/{name}' for name in names),
      'accuracy/caption_of_image', 'accuracy/image_of_caption'}


def test_the_contrast_is_infonce_both_ways_over_all_rows(folder):
  config = tuned(folder, **{'terms.mask_same_class': False, 'model.size': 14})
  module, variables = clip.load(folder)
  rows = batch(methods.build(config))
  pixels = (rows['image'][0] - np.array(clip_inputs.MEAN)) / np.array(clip_inputs.STD)
  image, text = (np.asarray(x, np.float64) for x in module.apply(
      variables, pixels.astype(np.float32), rows['tokens'][0]))
  image, text = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image, text))
  scores = np.exp(image @ text.T / 0.5)
  wanted = -sum(np.mean(np.log(np.diag(scores) / scores.sum(axis))) for axis in (0, 1))
  np.testing.assert_allclose(forward(config)['encoder/contrast'], wanted, rtol=1e-5)


@pytest.mark.thorough
def test_the_number_of_devices_and_of_parts_changes_nothing():
  first, one, metrics = run(small(**SUPERVISED))
  changed = jax.tree.map(lambda x, y: np.abs(x - y).max() > 1e-6, first, one)
  assert all(changed['image_transformer'][k]['kernel'] for k in ('patches', 'project'))
  assert changed['text_transformer']['words']['embedding'] and all(
    jax.tree.leaves(changed['classifiers'])
  )
  for devices, parts in ((8, 1), (4, 2)):
    _, other, found = run(small(**SUPERVISED, microbatches=parts), devices)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=2e-5), other, one)
    for name, value in metrics.items():
      np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize('devices', [1, 8])
def test_heads_alone_learn_and_begin_as_those_of_the_folder(folder, tmp_path, devices):
  config = tuned(folder)
  method, (module, variables) = methods.build(config), clip.load(folder)
  first, last, _ = run(config, devices)
  jax.tree.map(np.testing.assert_array_equal, first, heads(variables['params']))
  assert all(np.abs(x - y).max() > 1e-6 for x, y in zip(*map(jax.tree.leaves, (first, last))))
  jax.tree.map(np.testing.assert_array_equal, method.load_frozen()['clip']['params'],
               without_heads(variables['params']))
  method.export(tmp_path, {'encoder': last}, method.tokenizer())
  again, found = clip.load(clip.find(tmp_path))
  assert again == module
  jax.tree.map(np.testing.assert_array_equal, heads(found['params']), last)
  jax.tree.map(np.testing.assert_array_equal, without_heads(found['params']),
               without_heads(variables['params']))


def test_training_all_begins_as_the_folder_too(folder):
  first, *_ = run(tuned(folder, **{'model.trained': 'all'}), steps=0)
  jax.tree.map(np.testing.assert_array_equal, first, clip.load(folder)[1]['params'])
  assert methods.build(tuned(folder, **{'model.trained': 'all'})).frozen_spec == {}


@pytest.mark.parametrize('key', ['lr', 'warmup'])
def test_rates_below_zero_are_refused(key):
  config = small(**{f'optim.encoder.{key}': -1})
  with pytest.raises(UserError, match=f'--config.optim.encoder.{key}=-1.*: must be at least 0'):
    check(config)


@pytest.mark.parametrize('settings, message', [
    ({'model.trained': 'some'}, '--config.model.trained=some: choose one of all, heads'),
    ({'model.trained': 'heads'}, '=heads: .* name it with --config.text.encoder'),
    ({'terms.contrast_temperature': 0.0}, 'contrast_temperature=0.0: must be above 0'),
    ({'terms.supcon_image': 1.0}, 'supcon_image=1.0: .*--config.data.partners'),
    ({'terms.labels': 1.0}, '--config.model.classes: .* give the number of classes'),
    ({'model.clip_input': 'no'}, '--config.model.clip_input=no'),
    ({'clip.width': 100}, '--config.clip.width=100')])
def test_mistakes_are_named(settings, message):
  with pytest.raises(UserError, match=message):
    check(small(**settings))
    methods.build(small(**settings))


def test_a_network_without_any_loss_is_refused_when_its_phase_is_traced():
  with pytest.raises(UserError, match="'encoder' in the phase 'match' has weight 0"):
    program_of(methods.build(small(**{'terms.contrast': 0.0}))).trace()


def test_a_vocabulary_too_small_for_a_tokenizer_and_a_missing_clip_are_named():
  with pytest.raises(UserError, match='--config.clip.pieces=13: must be at least 514'):
    methods.build(small(**{'data.options.groups': ('food-drink',)})).tokenizer()
  missing = methods.build(small(**{'text.encoder': '/nowhere'}))
  with pytest.raises(UserError, match='cannot be found in /nowhere;'):
    missing.tokenizer()


def test_damaged_weights_are_told_before_the_program_that_begins_with_them(folder, tmp_path):
  damaged = tmp_path / 'clip'
  shutil.copytree(folder, damaged)
  weights = damaged / 'model.safetensors'
  weights.write_bytes(weights.read_bytes()[:-100])
  method = methods.build(small(**{'text.encoder': str(damaged), 'model.trained': 'all'}))
  with pytest.raises(UserError, match='model.safetensors'):
    method.tokenizer()


@pytest.mark.filterwarnings('ignore')
def test_a_run_leaves_a_clip_that_galip_reads(tmp_path, capsys):
  config = small(**{'clip.pieces': clip_tokens.MIN_SIZE + 40, 'clip.layers': 3, 'text.length': 20,
                    'steps': 2, 'every.report': 1, 'data.loader': 'arrays',
                    'data.options.groups': ('food-drink',), 'terms.mask_same_class': False})
  params = jax.device_get(train(config, tmp_path / 'run').networks['encoder'].params)
  assert 'The trained encoder is in' in capsys.readouterr().out
  with pytest.raises(UserError, match='draws no images'):
    TextToImage.load(tmp_path / 'run')
  module, variables = clip.load(clip.find(tmp_path / 'run'))
  jax.tree.map(np.testing.assert_array_equal, variables['params'], params)
  of_galip = galip.config()
  of_galip.update_from_flattened_dict({
      'model.size': 32, 'text.encoder': str(tmp_path / 'run'), 'text.length': 20})
  reader = methods.build(of_galip)
  frozen = reader.load_frozen()['clip']
  jax.tree.map(np.testing.assert_array_equal, frozen['params'], params)
  assert jax.tree.map(np.shape, frozen) == jax.tree.map(
      lambda x: x.shape, reader.frozen_spec['clip'])
  tokens, again = (made.tokenizer().encode(['a red apple', 'grapes'])[0]
                   for made in (methods.build(config), reader))
  np.testing.assert_array_equal(tokens, again)
  assert tokens.max() == reader.tokenizer().size - 1 < module.config.vocabulary


def test_settings_are_known_and_locked():
  config = method_of_clip.config()
  check(config)
  assert config.is_locked and config.method == 'clip'
