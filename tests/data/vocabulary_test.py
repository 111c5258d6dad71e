"""Word-level tokenisation is that of a few lines of Python, for every character there is."""
import re
import sys
import unicodedata

import pytest
import tokenizers

from xmc_jax.data import vocabulary


def slow(caption):
  """AttnGAN's words of a caption, step by step."""
  words = re.findall(r'\w+', caption.replace('\ufffd\ufffd', ' ').lower())
  plain = [word.encode('ascii', 'ignore').decode() for word in words]
  return [word for word in plain if word]


CAPTIONS = ('A red Bird, with TWO wings.', "It's a dog's  life - isn't it?\n", 'a\ufffd\ufffdbird',
            'café naïve, 苹果 apples', 'snake_case 2nd 3½ x² ＡＢ', 'İstanbul K elvin', '…', '',
            'e\u0301t\u0301e', 'a red bird <end> a')


@pytest.fixture
def read(tmp_path):
  def write(words):
    vocabulary.write(tmp_path / 'tokenizer.json', words)
    return tokenizers.Tokenizer.from_file(str(tmp_path / 'tokenizer.json'))
  return write


def test_numbers_are_those_of_the_first_appearance(read):
  words = vocabulary.collect(CAPTIONS)
  expected = list(dict.fromkeys(word for caption in CAPTIONS for word in slow(caption)))
  assert list(words) == expected and words[:3] == ('a', 'red', 'bird') and 'end' in words
  tokenizer = read(words)
  assert tokenizer.get_vocab_size() == len(words) + 1
  assert tokenizer.token_to_id('<end>') == 0
  for caption, encoding in zip(CAPTIONS, tokenizer.encode_batch(list(CAPTIONS)), strict=True):
    assert encoding.ids == [expected.index(word) + 1 for word in slow(caption)]


def test_numbers_that_were_given_stay_and_unknown_words_are_none_of_them(read):
  tokenizer = read(('bird', 'a', 'never'))
  assert tokenizer.encode('A bird, a fish').ids == [2, 1, 2, 0]


def test_every_character_is_read_as_python_reads_it():
  normalize = vocabulary.word_level().normalizer.normalize_str
  known = [chr(i) for i in range(sys.maxunicode + 1)
           if unicodedata.category(chr(i)) not in ('Cn', 'Cs')]
  text = ' '.join(f'a{c}b' for c in known)
  assert normalize(text).split() == slow(text)
