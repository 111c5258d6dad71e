"""Tokenisers of CLIP's kind for captions of few words: byte pairs of few pieces.

As CLIP's, they are in lower case, split at spaces, numbers and marks, know every byte, and number
the bytes first, then the merges in their order, and the two marks last. The library's own trainer
breaks ties by chance; ours always gives the same file for the same captions.
"""
from __future__ import annotations

import collections
import heapq
from collections.abc import Iterable, Mapping

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from xmc_jax.encoders.clip_inputs import END, START
from xmc_jax.types import UserError

PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
LAST = '</w>'            # ends the last piece of a word
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
LEAST = 2 * len(LETTERS) + 2      # pieces: the bytes, those that end a word, and the two marks


def train(captions: Iterable[str], pieces: int) -> str:
  """The text of a `tokenizer.json` of at most `pieces` pieces, the pairs that `captions` join most.

  UserError if the pieces are not enough for all bytes.
  """
  if pieces < LEAST:
    raise UserError(f'--config.clip.pieces={pieces}: it must be at least {LEAST}, for every byte '
                    'and the marks of begin and end')
  plain = _tokenizer([])
  words = collections.Counter(
    word for caption in captions for word, _ in plain.pre_tokenizer.pre_tokenize_str(
      plain.normalizer.normalize_str(caption)))
  return _tokenizer(_merges(words, pieces - LEAST)).to_str()


def _merges(words: Mapping[str, int], most: int) -> list[tuple[str, str]]:
  """The pairs to join, the most frequent first; of those as frequent the first by name.

  Pairs that occur once are left as they are.
  """
  spelt = [[*word[:-1], word[-1] + LAST] for word in words]
  numbers, counts = list(words.values()), collections.Counter()
  places = collections.defaultdict(set)

  def count(word: int, sign: int) -> set[tuple[str, str]]:
    pairs = list(zip(spelt[word], spelt[word][1:]))
    for pair in pairs:
      counts[pair] += sign * numbers[word]
      places[pair].add(word)
    return set(pairs)

  for word in range(len(spelt)):
    count(word, 1)
  heap = [(-number, pair) for pair, number in counts.items()]
  heapq.heapify(heap)
  merges = []
  while heap and len(merges) < most:
    number, best = heapq.heappop(heap)
    if -number != counts[best] or -number < 2:      # counted anew since, or rare
      continue
    merges.append(best)
    changed = set()
    for word in places.pop(best):
      changed |= count(word, -1)
      spelt[word] = _joined(spelt[word], best)
      changed |= count(word, 1)
    for pair in changed - {best}:
      heapq.heappush(heap, (-counts[pair], pair))
  return merges


def _joined(pieces: list[str], pair: tuple[str, str]) -> list[str]:
  joined = []
  for piece in pieces:
    if joined and (joined[-1], piece) == pair:
      joined[-1] += piece
    else:
      joined.append(piece)
  return joined


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
