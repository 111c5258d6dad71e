"""Word-level tokenisers, as the AttnGAN family reads captions."""
from __future__ import annotations

import pathlib
from collections.abc import Iterable, Sequence

import tokenizers
from tokenizers import normalizers, pre_tokenizers

from xmc_jax.utils import atomic

END = '<end>'   # number 0: padding, and what the vocabulary does not have


def word_level(words: Sequence[str] = ()) -> tokenizers.Tokenizer:
  """A tokeniser that gives `words` the numbers 1, 2, …; all other words are number 0.

  What it takes for words: a caption in lower case, its runs of what Python's `\\w` matches, without
  letters that are not ASCII, and without what is then empty. No marks are added at either end.
  AttnGAN (https://github.com/taoxugit/AttnGAN, code/datasets.py) does the same, and drops words
  that it has no number for; it first replaces two U+FFFD by a space, but these end a word anyway.
  """
  vocabulary = {word: number for number, word in enumerate((END, *words))}
  tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=END))
  tokenizer.normalizer = normalizers.Sequence([
      normalizers.Lowercase(),
      # Python's \w: letters, numbers, the underscore. Other languages' \w has marks in it too.
      normalizers.Replace(tokenizers.Regex(r'[^\p{L}\p{N}_]+'), ' '),
      normalizers.Replace(tokenizers.Regex(r'[^\x00-\x7f]+'), '')])
  tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
  return tokenizer


def collect(captions: Iterable[str]) -> tuple[str, ...]:
  """The words of captions in the order in which they first appear."""
  reader, found = word_level(), {}
  for caption in captions:
    normal = reader.normalizer.normalize_str(caption)
    found |= dict.fromkeys(normal.split())
  return tuple(found)


def write(path: pathlib.Path, words: Sequence[str]) -> None:
  """Writes the tokenizer.json of `words`; the file gets its name when it is complete."""
  atomic.save(path, word_level(words).to_str(pretty=False) + '\n')
