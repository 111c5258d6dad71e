"""Byte pairs of few captions: a slow twin, CLIP's own order of ids, and what reads the file."""
import collections
import json
import re

import numpy as np
import pytest
import tiny

from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import clip_tokens
from xmc_jax.types import UserError

CAPTIONS = ['a cat on the mat', 'the cat, the hat!', 'That cat sat at 12', 'a CAFÉ at the mat',
            'the photo of a café on 12 hats', 'photos of hats, cats and mats!']
tool = tiny.script('tools/clip_goldens.py')


def slow_merges(captions, most):
  """Counts all pairs anew for every merge."""
  words = collections.Counter(
      word for caption in captions for word in re.findall(r'[a-zé]+|\d|[^\sa-zé\d]+',
                                                          caption.lower()))
  spelt = {word: [*word[:-1].replace('é', 'Ã©'), *word[-1].replace('é', 'Ã©')] for word in words}
  for pieces in spelt.values():
    pieces[-1] += '</w>'
  merges = []
  while len(merges) < most:
    counts = collections.Counter()
    for word, number in words.items():
      for pair in zip(spelt[word], spelt[word][1:]):
        counts[pair] += number
    best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
    if best is None or counts[best] < 2:
      return merges
    merges.append(best)
    for word, pieces in spelt.items():
      joined = []
      while pieces:
        two = tuple(pieces[:2]) == best
        joined.append(''.join(pieces[:1 + two]))
        pieces = pieces[1 + two:]
      spelt[word] = joined
  return merges


@pytest.mark.parametrize('pieces', [clip_tokens.MIN_SIZE, clip_tokens.MIN_SIZE + 5, 4000])
def test_merges_are_those_of_a_slow_twin_in_clips_order(pieces):
  wanted = slow_merges(CAPTIONS, pieces - clip_tokens.MIN_SIZE)
  assert (len(wanted) == pieces - clip_tokens.MIN_SIZE) == (pieces < 4000)
  made = json.loads(clip_tokens.train(CAPTIONS, pieces))['model']
  assert [tuple(pair) for pair in made['merges']] == wanted
  assert made['vocab'] == tool.vocabulary(wanted)


def test_tokens_are_those_of_a_tokenizer_file_of_clips_kind(tmp_path):
  merges = slow_merges(CAPTIONS, 30)
  (tmp_path / 'tokenizer.json').write_text(clip_tokens.train(CAPTIONS, clip_tokens.MIN_SIZE + 30))
  (tmp_path / 'theirs').mkdir()
  tool.tokenizer(merges).save(str(tmp_path / 'theirs' / 'tokenizer.json'))
  captions = [*CAPTIONS, *tool.CAPTIONS[:9]]
  tokens, mask = Tokenizer(tmp_path, 77).encode(captions)
  for found, wanted in zip((tokens, mask), Tokenizer(tmp_path / 'theirs', 77).encode(captions)):
    np.testing.assert_array_equal(found, wanted)
  end = clip_tokens.MIN_SIZE + len(merges) - 1
  assert tokens.max() == end and (tokens.argmax(1) == mask.sum(1) - 1).all()


def test_a_vocabulary_too_small_for_all_bytes_is_refused():
  assert clip_tokens.MIN_SIZE == 514
  with pytest.raises(UserError, match='--config.clip.pieces=513: must be at least 514'):
    clip_tokens.train(CAPTIONS, 513)
