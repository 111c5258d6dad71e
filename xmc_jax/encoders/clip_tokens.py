"""Trains byte-pair tokenizers of CLIP's kind with a small vocabulary.

Like CLIP's, they lowercase, split at spaces, numbers and punctuation, and know every byte. Ids are
those of the bytes first, then the merges in order, then the start and end tokens. The library's own
trainer breaks ties at random; this one always gives the same file for the same captions.
"""
from __future__ import annotations

import collections
import heapq
from collections.abc import Iterable, Mapping

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from xmc_jax.encoders.clip_inputs import END, START
from xmc_jax.types import UserError

PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
LAST = '</w>'            # suffix of the last piece of a word
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
MIN_SIZE = 2 * len(LETTERS) + 2      # bytes, bytes that end a word, start and end token


def train(captions: Iterable[str], size: int) -> str:
  """The content of a `tokenizer.json` of at most `size` pieces, trained on `captions`.

  UserError if `size` is too small for all bytes.
  """
  if size < MIN_SIZE:
    raise UserError(f'--config.clip.pieces={size}: must be at least {MIN_SIZE}, for every byte and '
                    'the start and end tokens')
  plain = _tokenizer([])
  words = collections.Counter(
    word for caption in captions for word, _ in plain.pre_tokenizer.pre_tokenize_str(
      plain.normalizer.normalize_str(caption)))
  return _tokenizer(_merges(words, size - MIN_SIZE)).to_str()


def _merges(words: Mapping[str, int], most: int) -> list[tuple[str, str]]:
  """The pairs to merge, most frequent first; ties are broken alphabetically.

  Pairs that occur only once are not merged.
  """
  spelled = [[*word[:-1], word[-1] + LAST] for word in words]
  numbers, counts = list(words.values()), collections.Counter()
  places = collections.defaultdict(set)

  def count(word: int, sign: int) -> set[tuple[str, str]]:
    pairs = list(zip(spelled[word], spelled[word][1:]))
    for pair in pairs:
      counts[pair] += sign * numbers[word]
      places[pair].add(word)
    return set(pairs)

  for word in range(len(spelled)):
    count(word, 1)
  heap = [(-number, pair) for pair, number in counts.items()]
  heapq.heapify(heap)
  merges = []
  while heap and len(merges) < most:
    number, best = heapq.heappop(heap)
    if -number != counts[best] or -number < 2:      # outdated entry, or too rare
      continue
    merges.append(best)
    changed = set()
    for word in places.pop(best):
      changed |= count(word, -1)
      spelled[word] = _merged(spelled[word], best)
      changed |= count(word, 1)
    for pair in changed - {best}:
      heapq.heappush(heap, (-counts[pair], pair))
  return merges


def _merged(pieces: list[str], pair: tuple[str, str]) -> list[str]:
  merged = []
  for piece in pieces:
    if merged and (merged[-1], piece) == pair:
      merged[-1] += piece
    else:
      merged.append(piece)
  return merged


def _tokenizer(merges: list[tuple[str, str]]) -> Tokenizer:
  names = [*LETTERS, *(x + LAST for x in LETTERS), *map(''.join, merges), START, END]
  ids = {name: i for i, name in enumerate(dict.fromkeys(names))}
  tokenizer = Tokenizer(models.BPE(ids, merges, unk_token=END, continuing_subword_prefix='',
                                   end_of_word_suffix=LAST))
  tokenizer.normalizer = normalizers.Sequence([
    normalizers.NFC(), normalizers.Replace(Regex(r'\s+'), ' '), normalizers.Lowercase()])
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
    pre_tokenizers.Split(Regex(PIECES), 'removed', invert=True),
    pre_tokenizers.ByteLevel(add_prefix_space=False)])
  tokenizer.post_processor = processors.RobertaProcessing(
    (END, ids[END]), (START, ids[START]), trim_offsets=False, add_prefix_space=False)
  tokenizer.add_special_tokens([START, END])
  return tokenizer
