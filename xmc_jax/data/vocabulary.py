"""Word-level tokenizers, which read captions as the AttnGAN family does."""
from __future__ import annotations

import pathlib
from collections.abc import Iterable, Sequence

import tokenizers
from tokenizers import normalizers, pre_tokenizers

from xmc_jax.utils import atomic

END = '<end>'   # number 0: padding and unknown words


def word_level(words: Sequence[str] = ()) -> tokenizers.Tokenizer:
  """Returns a tokenizer that numbers `words` 1, 2, …; all other words are number 0.

  A caption is lower-cased and split into runs of Python's `\\w`; characters that are not ASCII are
  removed from them, and empty ones are dropped. No start or end token is added. AttnGAN
  (https://github.com/taoxugit/AttnGAN, code/datasets.py) does the same, and drops unknown words; it
  first replaces two U+FFFD by a space, but these separate words anyway.
  """
  vocabulary = {word: number for number, word in enumerate((END, *words))}
  tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=END))
  tokenizer.normalizer = normalizers.Sequence([
      normalizers.Lowercase(),
      # Python's \w: letters, numbers, underscore. The \w of this regex engine includes marks too.
      normalizers.Replace(tokenizers.Regex(r'[^\p{L}\p{N}_]+'), ' '),
      normalizers.Replace(tokenizers.Regex(r'[^\x00-\x7f]+'), '')])
  tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
  return tokenizer


def collect(captions: Iterable[str]) -> tuple[str, ...]:
  """Returns the distinct words of captions, in order of first appearance."""
  reader, found = word_level(), {}
  for caption in captions:
    normal = reader.normalizer.normalize_str(caption)
    found |= dict.fromkeys(normal.split())
  return tuple(found)


def write(path: pathlib.Path, words: Sequence[str]) -> None:
  """Writes the tokenizer.json of `words`; the file appears only when it is complete."""
  atomic.save(path, word_level(words).to_str(pretty=False) + '\n')
