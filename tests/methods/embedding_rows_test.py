"""A tokenizer with more tokens than the network has rows is refused, before it gives NaN."""
import json
import shutil

import jax
import pytest
import tokenizers
from toy_backbone import TOY

from xmc_jax import methods
from xmc_jax.encoders import clip_tokens, damsm, image_backbones
from xmc_jax.methods import _clip, attngan, galip, xmc_gan
from xmc_jax.types import UserError


def bert(folder, more, encoder_folder):
  shutil.copytree(encoder_folder, folder)
  add(folder, more)
  config = xmc_gan.config()
  config.model.size = 64
  return config, 30522


def words(folder, more, monkeypatch):
  monkeypatch.setitem(image_backbones.BACKBONES, 'toy', TOY)
  vocabulary = tokenizers.Tokenizer(tokenizers.models.WordLevel(
      {'<end>': 0, 'red': 1, 'apple': 2}, unk_token='<end>'))
  module = damsm.Damsm(3, 'toy', embedding=6, width=4)
  damsm.save(folder, module, damsm.create(module, jax.random.key(0)), vocabulary.to_str())
  add(folder, more)
  return attngan.config(), 3


def byte_pairs(folder, more, _):
  folder.mkdir()
  text = clip_tokens.train(['a red apple'] * 3, 600)
  (folder / 'tokenizer.json').write_text(text)
  size = max(tokenizers.Tokenizer.from_str(text).get_vocab().values()) + 1
  config = galip.config()
  config.clip, config.model.size = _clip.small() | {'pieces': size}, 128
  # The network of that size, without numbers: only its shapes are needed here.
  found = _clip.sizes_of(config.clip)
  (folder / 'config.json').write_text(json.dumps(found.raw()))
  (folder / 'model.safetensors').write_text('')
  add(folder, more)
  return config, size


def add(folder, more):
  path = folder / 'tokenizer.json'
  tokenizer = tokenizers.Tokenizer.from_file(str(path))
  tokenizer.add_tokens([f'xmc{i}' for i in range(more)])
  tokenizer.save(str(path))


@pytest.mark.parametrize('write', [bert, words, byte_pairs])
@pytest.mark.parametrize('more', [0, 1, 3])
def test_more_tokens_than_rows_are_refused(tmp_path, write, more, encoder_folder, monkeypatch):
  folder = tmp_path / 'encoder'
  config, rows = write(folder, more, encoder_folder if write is bert else monkeypatch)
  config.text.encoder = str(folder)
  method = methods.build(config)
  if not more:
    assert method.tokenizer().size == rows
    return
  with pytest.raises(UserError) as error:
    method.tokenizer()
  said = str(error.value)
  assert f'{rows + more:,} tokens' in said and f'{rows:,} rows' in said and str(folder) in said


def test_a_gap_in_the_numbers_counts(tmp_path, encoder_folder):
  folder = shutil.copytree(encoder_folder, tmp_path / 'bert')
  path = folder / 'tokenizer.json'
  known = json.loads(path.read_text())
  known['model']['vocab']['apple'] = 40000      # as many pieces as rows, but one beyond them
  path.write_text(json.dumps(known))
  config = xmc_gan.config()
  config.model.size, config.text.encoder = 64, str(folder)
  with pytest.raises(UserError, match=r'40,001 tokens.*30,522 rows'):
    methods.build(config).tokenizer()
