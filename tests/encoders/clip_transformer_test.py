"""Inside CLIP: its maps, a map of another network on its way through, images, a folder written.

The slow twin of the image encoder is itself compared with the goldens of transformers.
"""
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import toys

from xmc_jax.encoders import clip
from xmc_jax.encoders.clip_inputs import MEAN, STD, preprocess, preprocess_on_device
from xmc_jax.encoders.clip_layers import TransformerConfig
from xmc_jax.types import UserError
from xmc_jax.weight_files.files import read_safetensors

GOLDENS = pathlib.Path(__file__).parent / 'goldens'
tool = tiny.script('tools/clip_goldens.py')
GRID, WIDTH = 3, tool.QUICK['vision_config']['hidden_size']


@pytest.fixture(name='folder', scope='module')
def _folder(tmp_path_factory):
  return tool.write(tmp_path_factory.mktemp('clip'), tool.QUICK)


class SlowImageEncoder:
  """The image transformer by the tensors of its file, in numpy and float64."""

  def __init__(self):
    self.t = {name.removeprefix('vision_model.').removeprefix('embeddings.'): x.astype(np.float64)
              for name, x in tool.tensors(tool.QUICK).items()}

  def norm(self, x, name):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * self.t[f'{name}.weight'] + self.t[f'{name}.bias']

  def linear(self, x, name):
    return x @ self.t[f'{name}.weight'].T + self.t[f'{name}.bias']

  def layer(self, x, i):
    at, heads = f'encoder.layers.{i}', tool.QUICK['vision_config']['num_attention_heads']
    h, context = self.norm(x, f'{at}.layer_norm1'), []
    for part in zip(*(np.split(self.linear(h, f'{at}.self_attn.{kind}_proj'), heads, -1)
                      for kind in 'qkv')):
      q, k, v = part
      scores = np.exp(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1]))
      context.append(scores / scores.sum(-1, keepdims=True) @ v)
    x = x + self.linear(np.concatenate(context, -1), f'{at}.self_attn.out_proj')
    h = self.linear(self.norm(x, f'{at}.layer_norm2'), f'{at}.mlp.fc1')
    return x + self.linear(h / (1 + np.exp(-1.702 * h)), f'{at}.mlp.fc2')

  def begin(self, patches):
    """Patches [b, n, e] with the vector before them."""
    own = np.tile(self.t['class_embedding'], (len(patches), 1, 1))
    x = np.concatenate([own, patches], 1) + self.t['position_embedding.weight']
    return self.norm(x, 'pre_layrnorm')

  def embed(self, pixels):
    kernel = self.t['patch_embedding.weight']      # e, 3, 4, 4
    blocks = pixels[:, :12, :12].reshape(-1, GRID, 4, GRID, 4, 3)
    return np.einsum('bihjwc,echw->bije', blocks, kernel).reshape(len(pixels), -1, WIDTH)

  def embedding(self, x):
    return self.norm(x[:, 0], 'post_layernorm') @ self.t['visual_projection.weight'].T


def as_map(x):
  return x[:, 1:].reshape(-1, GRID, GRID, WIDTH)


def test_maps_are_those_after_each_layer_and_embeddings_the_goldens(folder):
  pixels, _ = tool.inputs(tool.QUICK)
  slow = SlowImageEncoder()
  x, maps = slow.begin(slow.embed(pixels)), []
  for i in range(3):
    x = slow.layer(x, i)
    maps.append(as_map(x))
  golden = np.load(GOLDENS / 'clip.npz')['quick_image']
  np.testing.assert_allclose(slow.embedding(x), golden, atol=1e-5)
  module, variables = clip.load(folder)
  features = lambda layers: module.apply(variables, pixels, layers, method='image_features')
  embedding, found = features((0, 2))
  assert found.shape == (3, 2, GRID, GRID, WIDTH) and found.dtype == np.float32
  np.testing.assert_allclose(found, np.stack([maps[0], maps[2]], 1), atol=2e-5)
  np.testing.assert_allclose(embedding, slow.embedding(x), atol=1e-5)
  np.testing.assert_allclose(features((1,))[1][:, 0], maps[1], atol=2e-5)


def test_a_map_of_another_network_meets_prompts_in_the_layers_that_have_one(folder):
  x, prompts = toys.normal(0, 2, GRID, GRID, WIDTH), toys.normal(1, 2, 2, WIDTH)
  slow = SlowImageEncoder()
  wanted = slow.layer(slow.begin(x.reshape(2, -1, WIDTH)), 0)
  for i in (1, 2):
    wanted = slow.layer(np.concatenate([wanted, prompts[:, i - 1:i]], 1), i)[:, :-1]
  module, variables = clip.load(folder)
  run_clip = lambda *given: module.apply(variables, *given, method='forward_with_prompts')
  found = run_clip(x, prompts, 1)
  assert found.shape == x.shape and found.dtype == np.float32
  np.testing.assert_allclose(found, as_map(wanted), atol=2e-5)
  assert np.abs(run_clip(x, prompts, 0) - found).max() > 1e-2
  assert np.abs(run_clip(x, prompts[:, :0], 0) - found).max() > 1e-2


def test_token_features_come_with_the_embedding(folder):
  _, tokens = tool.inputs(tool.QUICK)
  module, variables = clip.load(folder)
  words, embedding = module.apply(variables, tokens, method='token_features')
  np.testing.assert_array_equal(embedding, module.apply(variables, tokens, method='text'))
  last = np.asarray(words)[np.arange(len(tokens)), tokens.argmax(1)]
  projected = last @ tool.tensors(tool.QUICK)['text_projection.weight'].T
  np.testing.assert_allclose(projected, embedding, atol=1e-5)


@pytest.mark.parametrize('size', [14, 28, 40])
def test_preprocessing_on_the_device_equals_that_on_the_host(size):
  pixels = np.round(255 * toys.numbers(0).random((2, size, size, 3))).astype(np.uint8)
  found = preprocess_on_device(pixels.astype(np.float32) / 255, 14)
  assert found.shape == (2, 14, 14, 3) and found.dtype == np.float32
  # The host resizes one edge after the other, and rounds both times by half a 255th.
  np.testing.assert_allclose(found, preprocess(pixels, 14), atol=1 / 255 / min(STD))


def test_the_released_way_takes_nearest_pixels_and_lifts_them_to_the_upper_half():
  images = toys.numbers(0).random((1, 8, 8, 3)).astype(np.float32)
  found = preprocess_on_device(jnp.array(images), 7, 'released')
  for i, j in ((0, 0), (3, 6), (6, 2)):
    pixel = images[0, 8 * i // 7, 8 * j // 7]
    np.testing.assert_allclose(found[0, i, j], (0.5 + pixel / 2 - np.array(MEAN)) / np.array(STD),
                               rtol=1e-5)


def test_a_written_folder_is_read_again_as_it_was(folder, tmp_path):
  module, variables = clip.load(folder)
  text = (folder / 'tokenizer.json').read_text()
  clip.save(tmp_path / 'run' / 'encoder', module.config, variables, text, 0.07)
  (tmp_path / 'run' / 'config.json').write_text('{}')      # that of the run
  assert clip.find(tmp_path / 'run') == tmp_path / 'run' / 'encoder' == clip.find(
      tmp_path / 'run' / 'encoder')
  again, found = clip.load(clip.find(tmp_path / 'run'))
  assert again == module and (tmp_path / 'run' / 'encoder' / 'tokenizer.json').read_text() == text
  jax.tree.map(np.testing.assert_array_equal, found, variables)
  tensors = read_safetensors(tmp_path / 'run' / 'encoder' / 'model.safetensors')
  assert tensors.keys() == tool.tensors(tool.QUICK).keys()
  np.testing.assert_allclose(np.exp(-tensors['logit_scale']), 0.07, rtol=1e-6)
  for name, x in tool.tensors(tool.QUICK).items():
    if name != 'logit_scale':
      np.testing.assert_array_equal(tensors[name], x, err_msg=name)


@pytest.mark.slow
def test_random_weights_are_spread_as_in_the_released_code():
  e, layers = 192, 5
  transformer = TransformerConfig(e, layers, 3, 4 * e, 'quick_gelu', 1e-5)
  module = clip.Clip(clip.ClipConfig(transformer, transformer, 64, 48, 4, 999, 77, end=None))
  pixels, tokens = jnp.zeros((1, 48, 48, 3)), jnp.zeros((1, 2), jnp.int32)
  params = module.init(jax.random.key(0), pixels, tokens)['params']
  text, image = params['text_transformer'], params['image_transformer']
  for layer in text['layer_0'], text['layer_4'], image['layer_4']:
    found = {name: float(part['kernel'].std()) for name, part in layer.items() if 'kernel' in part}
    wanted = {'query': e ** -0.5, 'key': e ** -0.5, 'value': e ** -0.5, 'widen': (2 * e) ** -0.5,
              'attended': (10 * e) ** -0.5, 'narrow': (10 * e) ** -0.5}      # 2 x 5 branches
    assert found == pytest.approx(wanted, rel=0.02)
  spreads = [float(x.std()) for x in (text['words']['embedding'], text['positions']['embedding'],
                                      image['positions']['embedding'])]
  assert spreads == pytest.approx([0.02, 0.01, e ** -0.5], rel=0.02)
  assert float(image['class'].std()) == pytest.approx(e ** -0.5, rel=0.2)


def test_an_empty_name_is_refused_and_does_not_mean_this_folder(folder, monkeypatch):
  monkeypatch.chdir(folder)
  with pytest.raises(UserError, match='no CLIP is given'):
    clip.find('')
