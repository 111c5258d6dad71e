"""Trains a matching network for `xmc sample --best_of` on real images, and evaluates it.

    python tools/train_matcher.py --data emoji_scenes --out matcher.safetensors [--minutes 40]

Every step takes images of the train split with six captions each: its own, three of the 32 captions
of other images that are nearest to it by MiniLM's sentence embeddings, and two of the batch. It
minimizes the cross-entropy of the own caption among the six, plus the logistic loss of true and of
wrong pairs. Nearest captions differ in a number, a kind or a background, so only what the caption
says tells them apart. Hard wrong captions are ALBEF's idea (Li et al., arXiv 2107.07651), which
takes them from the batch. With --mistakes, for `emoji_scenes`, there are two more, which are the
own caption with one mistake (scene_mistakes.py): another number of something, after Paiss et al.,
arXiv 2302.12066, and another kind, size, place or background.

--minutes are of processor time; over their second half the learning rate falls. At the end it
prints how often the own caption of a real held-out image has the largest logit among its 32
nearest. It needs MiniLM (see `xmc_jax/encoders/bert.py`) and 3 GB of memory for 30,000 images.
"""
from __future__ import annotations

import argparse
import dataclasses
import itertools
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scene_mistakes
import train_alignment_net

from xmc_jax.configs import swift_emoji64
from xmc_jax.data import source
from xmc_jax.losses.matching import true_caption_loss
from xmc_jax.methods import _bert
from xmc_jax.networks import matcher
from xmc_jax.types import Tree
from xmc_jax.utils.arrays import unit

IMAGES = 30_000    # kept in memory, each with one of its captions
NEAREST = 32       # captions from which hard wrong ones are taken
HARD, RANDOM = 3, 2      # wrong captions of an image in a step
BATCH = 32         # images a step
RATE, WARMUP = 1e-3, 200      # of AdamW; steps
LAST = 0.02        # of the rate, at the end
DECAY = 0.999      # of the moving average that is kept
REPORT = 200       # steps between two lines of the log
MISTAKES = {'emoji_scenes': scene_mistakes.captions}      # wrong captions that are written
ROWS = 128         # captions that are encoded at once


@dataclasses.dataclass(frozen=True)
class Pairs:
  """Images with a caption each, in memory.

  images: uint8 [n, 64, 64, 3]. words: float16 [m, t, e], MiniLM's, of the captions of the n images
  and then of those with mistakes; mask: [m, t]. nearest: [n, k] indices of the captions of other
  images that are nearest to each, which are written differently. mistakes: [n, 0 or 2] indices.
  """
  images: np.ndarray
  words: np.ndarray
  mask: np.ndarray
  nearest: np.ndarray
  mistakes: np.ndarray

  @classmethod
  def read(cls, name: str, split: str, most: int, length: int, mistakes: bool) -> Pairs:
    """Up to `most` images of a split, each with a random one of its captions.

    mistakes: with captions that have one each.
    """
    data, rng = source.load(name, split, matcher.SIDE), np.random.default_rng(0)
    chosen = rng.permutation(len(data))[:most]
    which = [int(rng.integers(len(data.captions(i)))) for i in chosen]
    captions = [data.captions(i)[k] for i, k in zip(chosen, which, strict=True)]
    write = MISTAKES[name] if mistakes else lambda *_: ()
    mistaken = [write(data, i, k, rng) for i, k in zip(chosen, which, strict=True)]
    n, each = len(chosen), len(mistaken[0])
    words, mask = encoded(captions + list(itertools.chain(*mistaken)), length)
    return cls(np.stack([data.image(i) for i in chosen]), words, mask,
               nearest(words[:n], mask[:n], np.unique(captions, return_inverse=True)[1]),
               n + np.arange(n * each).reshape(n, each))

  def __len__(self) -> int:
    return len(self.images)

  def part(self, rows: np.ndarray, captions: np.ndarray) -> tuple[np.ndarray, ...]:
    """Images [b, 64, 64, 3] of rows, and the words and masks of captions [b, k]."""
    return self.images[rows], self.words[captions], self.mask[captions]


def encoded(captions: list[str], length: int) -> tuple[np.ndarray, np.ndarray]:
  """MiniLM's words of captions, float16 [n, t, e], and their mask [n, t]."""
  config = swift_emoji64.get_config()
  config.text.length = length
  text = _bert.frozen_bert(config)
  variables, (tokens, mask) = text.load(), text.tokenizer().encode(captions)
  encode = jax.jit(lambda variables, tokens, mask: text.encode(
      {'text': variables}, {'tokens': tokens, 'mask': mask}).words)
  words = np.zeros((len(captions), length, text.features), np.float16)
  for start in range(0, len(captions), ROWS):
    rows = np.minimum(np.arange(start, start + ROWS), len(captions) - 1)
    words[rows] = encode(variables, tokens[rows], mask[rows])
  return words, mask


def nearest(words: np.ndarray, mask: np.ndarray, written: np.ndarray) -> np.ndarray:
  """The `NEAREST` other captions of each by the cosine of the mean of their words, [n, k].

  written: [n], equal for captions that are written alike, which are none of each other's.
  """
  weights = mask / mask.sum(1, keepdims=True)
  sentences = unit(np.einsum('nte,nt->ne', words.astype(np.float32), weights))
  found = []
  for start in range(0, len(sentences), ROWS):
    cosines = np.array(sentences[start:start + ROWS] @ sentences.T)
    cosines[written[start:start + ROWS, None] == written] = -np.inf
    found.append(np.argpartition(-cosines, NEAREST, 1)[:, :NEAREST])
  return np.concatenate(found)


def train(pairs: Pairs, minutes: float, variables: Tree | None = None, seed: int = 0) -> Tree:
  """Trains a matching network for so much processor time; returns its averaged variables.

  variables: to begin with; random ones by default.
  """
  module, rng = matcher.Matcher(), np.random.default_rng(seed)
  if variables is None:
    variables = module.init(jax.random.key(seed), *(
        jnp.zeros(x.shape, x.dtype) for x in matcher.weights(pairs.words.shape[-1]).inputs))
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(RATE, weight_decay=0.02))
  state, average = optimizer.init(variables), variables

  @jax.jit
  def step(variables, average, state, key, rate, images, words, mask):
    def loss_of(variables):
      batch = {'image': images, 'flippable': jnp.zeros(len(images), bool)}
      logits = module.apply(variables, train_alignment_net.augment(key, batch),
                            words.astype(jnp.float32), mask)
      return true_caption_loss(logits), (logits.argmax(1) == 0).mean()
    (loss, right), gradients = jax.value_and_grad(loss_of, has_aux=True)(variables)
    updates, state = optimizer.update(gradients, state, variables)
    variables = optax.apply_updates(variables, jax.tree.map(lambda x: rate * x, updates))
    average = optax.incremental_update(variables, average, 1 - DECAY)
    return variables, average, state, loss, right

  began, done, i, told = time.process_time(), 0.0, 0, []
  while done < 1:
    rows = rng.choice(len(pairs), BATCH, replace=False)
    hard = np.stack([rng.choice(pairs.nearest[row], HARD, replace=False) for row in rows])
    others = [np.roll(rows, shift) for shift in range(1, 1 + RANDOM)]
    captions = np.concatenate([rows[:, None], hard, np.stack(others, 1), pairs.mistakes[rows]], 1)
    rate = min((i + 1) / WARMUP, 1.0) * np.clip(2 * (1 - done), LAST, 1)
    variables, average, state, *facts = step(
        variables, average, state, jax.random.fold_in(jax.random.key(seed), i), np.float32(rate),
        *pairs.part(rows, captions))
    told.append(facts)
    i, done = i + 1, (time.process_time() - began) / (60 * minutes)
    if i % REPORT == 0 or done >= 1:
      loss, right = np.mean(np.array(told[-REPORT:], np.float64), 0)
      print(f'step {i:,}, {done:.0%} of the time, loss {loss:.3f}, {right:.1%} of the own captions '
            'first', flush=True)
  return average


def measure(pairs: Pairs, wrong: np.ndarray, variables: Tree) -> float:
  """How often the own caption has a larger logit than all wrong ones, indices [n, k]."""
  run = jax.jit(matcher.Matcher().apply)
  right = []
  for row in range(len(pairs)):
    images, words, mask = pairs.part(np.array([row]), np.append(row, wrong[row])[None])
    logits = run(variables, images / np.float32(255), words.astype(np.float32), mask)
    right.append(int(logits.argmax()) == 0)
  return float(np.mean(right))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--data', required=True, help='data set, see xmc_jax/data/source.py')
  parser.add_argument('--out', type=pathlib.Path, required=True, help='weight file')
  parser.add_argument('--minutes', type=float, default=40, help='of processor time')
  parser.add_argument('--mistakes', action='store_true',
                      help=f'also captions with one mistake, of {", ".join(MISTAKES)}')
  parser.add_argument('--init', help='weight file of a network that is trained on')
  parser.add_argument('--images', type=int, default=IMAGES, help='of the train split')
  parser.add_argument('--length', type=int, default=24, help='word pieces of a caption')
  flags = parser.parse_args()
  if flags.mistakes and flags.data not in MISTAKES:
    parser.error(f'--mistakes: is for {", ".join(MISTAKES)}')
  pairs = Pairs.read(flags.data, 'train', flags.images, flags.length, flags.mistakes)
  features = pairs.words.shape[-1]
  variables = train(pairs, flags.minutes,
                    matcher.load(flags.init, features) if flags.init else None)
  matcher.weights(features).save(flags.out, variables)
  heldout = Pairs.read(flags.data, 'heldout', 1000, flags.length, flags.data in MISTAKES)
  for words, wrong in {f'{NEAREST} nearest captions': heldout.nearest,
                       'own with a mistake': heldout.mistakes}.items():
    if wrong.size:
      print(f'held out, beside the {words}: the own caption is first for '
            f'{measure(heldout, wrong, variables):.1%} of {len(heldout)} images')


if __name__ == '__main__':
  main()
