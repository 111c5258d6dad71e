"""The method of DAMSM: what is trained by which losses, on devices, in parts; what a run leaves."""
import functools

import jax
import numpy as np
import optax
import pytest
import toys
from toy_backbone import TOY

from xmc_jax import methods
from xmc_jax.cli.main import main
from xmc_jax.encoders import damsm, image_backbones
from xmc_jax.losses import damsm as losses
from xmc_jax.methods import _damsm, scl
from xmc_jax.methods import damsm as method_of_damsm
from xmc_jax.networks.base import ForwardOutputs, Text
from xmc_jax.sampling import TextToImage
from xmc_jax.trainer import train
from xmc_jax.training.mesh import make_mesh, put_rows
from xmc_jax.training.program import Program
from xmc_jax.types import UserError

pytestmark = pytest.mark.slow

FIRST = {'words', 'sentence'}


@pytest.fixture(name='config')
def _config(monkeypatch):
  monkeypatch.setitem(image_backbones.BACKBONES, 'toy', TOY)
  config = method_of_damsm.config().copy_and_resolve_references()
  config.unlock()
  config.batch_size, config.image.encoder = 8, 'toy'
  config.model.update(dict(size=8, embedding=6, width=8, dropout=0.0))
  config.text.update(dict(words=13, length=6))
  return config


@pytest.mark.parametrize('corners', [True, False])
@pytest.mark.parametrize('phase', ['training', 'frozen'])
def test_images_are_resized_as_the_config_says(config, monkeypatch, phase, corners):
  asked, resize = [], image_backbones.resize
  monkeypatch.setattr(image_backbones, 'resize', lambda x, side, *, corners: (
      asked.append(corners), resize(x, side, corners=corners))[1])
  config.image.corners = corners
  if phase == 'training':
    run(config, steps=1)
  else:
    config.text.encoder = 'no such folder'      # sizes are then the config's
    frozen = _damsm.frozen_damsm(config, embeds_images=True)
    jax.eval_shape(frozen.embed_images, frozen.spec, jax.ShapeDtypeStruct((2, 5, 5, 3), 'float32'))
  assert corners in asked and (not corners or False not in asked)


def batch(method, seed=0):
  found = {}
  for i, prefix in enumerate(('', 'partner_')):
    if f'{prefix}image' in method.batch_spec:
      own = {k: method.batch_spec[prefix + k] for k in ('image', 'tokens')}
      found |= {f'{prefix}{k}': v for k, v in toys.batch(own, seed + 50 * i).items()}
    if (spec := method.batch_spec.get(f'{prefix}label')) is not None:
      found[f'{prefix}label'] = (np.arange(np.prod(spec.shape)).reshape(spec.shape) % 3).astype(
          spec.dtype)
  return found


def run(config, devices=1, steps=2):
  """First and last state's parameters, metrics of the last step."""
  method = methods.build(config)
  program = Program(method.objective, {'encoder': optax.sgd(0.05)}, 0.9, method.frozen_spec,
                    method.batch_spec, make_mesh(jax.devices()[:devices]))
  compiled, frozen = program.compile(), program.put_frozen(method.load_frozen())
  state = toys.state(program)
  first = jax.device_get(state.networks['encoder'].params)
  for step in range(steps):
    state, metrics = compiled(state, frozen, put_rows(batch(method, step), program.rows))
  return first, jax.device_get(state.networks['encoder'].params), jax.device_get(metrics)


SUPERVISED = {'data.partners': 'exact', 'terms.supcon_text': 1.0, 'terms.supcon_image': 1.0,
              'terms.unicl': 1.0, 'terms.supcon_words': 1.0, 'terms.labels': 1.0,
              'model.classes': 3}


@pytest.mark.parametrize('settings, names, keys', [
    ({}, FIRST, {'label'}),
    ({'terms.mask_same_class': False}, FIRST, set()),
    ({'data.partners': 'exact', 'terms.unicl': 1.0}, FIRST | {'unicl'}, {'label'}),
    (SUPERVISED, FIRST | {'supcon_text', 'supcon_image', 'unicl', 'supcon_words',
                          'labels'}, {'label'})])
def test_losses_and_the_batch_that_they_need(config, settings, names, keys):
  config.update_from_flattened_dict(settings)
  method = methods.build(config)
  assert [[(p.name, p.updates) for p in phases] for phases in method.objective.rounds] == [
      [('match', ('encoder',))]]
  keys = {'image', 'tokens', 'mask'} | keys
  both = keys | {f'partner_{key}' for key in keys}
  assert set(method.batch_spec) == (both if config.data.partners else keys)
  rows = {k: jax.ShapeDtypeStruct(v.shape[1:], v.dtype) for k, v in method.batch_spec.items()}
  params = jax.eval_shape(method.objective.init, jax.random.key(0), rows)['encoder']['params']
  forward = method.objective.rounds[0][0].forward
  metrics = jax.eval_shape(lambda *args: forward(*args).metrics, {'encoder': params},
                           {'encoder': {}}, method.frozen_spec, rows, jax.random.key(0))
  assert {k for k in metrics if k.startswith('encoder')} == {f'encoder/{name}' for name in names}
  assert {k for k in metrics if k[:8] == 'accuracy'} == {
      'accuracy/caption_of_image', 'accuracy/image_of_caption'}


@pytest.mark.parametrize('settings, masked', [
    ({}, True), ({'data.partners': 'exact'}, True), ({'data.partners': 'self'}, True),
    ({'data.partners': 'self', 'terms.mask_same_class': False}, False)])
def test_images_with_the_same_label_are_no_negatives_whatever_the_partners(
  config, settings, masked
):
  config.update_from_flattened_dict(settings)
  labels, embeddings = np.array([0, 1, 2, 0]), toys.normal(4, 4, 8)
  words = toys.text(rows=4, features=8)
  text = Text(words.words, words.mask, sentence=embeddings[::-1])
  outputs = ForwardOutputs({'label': labels}, text, real_embedding=embeddings,
                           real_regions=toys.normal(5, 4, 5, 8))
  found = method_of_damsm.encoder_losses(
      outputs, mask_rule=scl.mask_rule(config), gamma1=4.0, gamma2=5.0, gamma3=10.0)['sentence']
  np.testing.assert_allclose(found, losses.sentences(
      embeddings, embeddings[::-1], labels if masked else None), rtol=1e-6)


def test_the_number_of_devices_and_of_parts_changes_nothing(config):
  config.update_from_flattened_dict(SUPERVISED)
  first, one, metrics = run(config)
  assert all(np.abs(x - y).max() > 1e-6 for x, y in zip(*map(jax.tree.leaves, (first, one))))
  config.microbatches = 2
  for devices in (8, 1):
    _, other, found = run(config, devices if config.microbatches == 1 else 4)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=2e-5), other, one)
    for name, value in metrics.items():
      np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
    config.microbatches = 1


@pytest.mark.parametrize('settings, message', [
    ({'terms.supcon_image': 1.0}, 'supcon_image=1.0: .*--config.data.partners'),
    ({'terms.labels': 1.0}, '--config.model.classes: .* give the number of classes'),
    ({'model.one_class': False}, '--config.model.classes'),
    ({'model.dtype': 'bfloat16'}, 'model.dtype=bfloat16: DAMSM computes in float32'),
    ({'image.encoder': 'resnet'}, "no image backbone 'resnet'")])
def test_mistakes_are_named(config, settings, message):
  config.update_from_flattened_dict(settings)
  with pytest.raises(UserError, match=message):
    methods.build(config)


@pytest.mark.filterwarnings('ignore')
def test_a_run_leaves_its_encoder_goes_on_exactly_and_draws_nothing(config, tmp_path, capsys):
  config.text.words, config.steps, config.every.save, config.every.report = None, 4, 2, 1
  config.data.loader, config.data.options.groups = 'arrays', ('food-drink',)
  straight = train(config, tmp_path / 'straight')
  config.steps = 2
  train(config, tmp_path / 'run')
  config.steps = 4
  resumed = train(config, tmp_path / 'run')
  jax.tree.map(np.testing.assert_array_equal, *(
      jax.device_get(s.networks['encoder'].params) for s in (straight, resumed)))
  module, variables = damsm.load(damsm.find(tmp_path / 'run'))
  learned = {k: v for k, v in variables['params'].items() if k != damsm.BACKBONE}
  jax.tree.map(np.testing.assert_array_equal, learned,
               jax.device_get(resumed.networks['encoder'].params))
  assert 'The trained encoder is in' in capsys.readouterr().out
  assert not (tmp_path / 'run' / 'images').exists()
  with pytest.raises(UserError, match='draws no images'):
    TextToImage.load(tmp_path / 'run')
  assert main(['xmc', 'sample', f'--workdir={tmp_path / "run"}', '--caption=a red apple']) == 2
  assert module.vocabulary == methods.build(config).tokenizer().size
