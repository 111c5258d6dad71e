"""Trains a judge of `xmc_jax.evals.alignment` on real images; writes its weights and figures.

    python tools/train_judge.py --data emoji [--steps 700] [--out FILE]

Every step takes images of the set's train split, each with one of its captions, and lowers the
symmetric InfoNCE loss of the batch (van den Oord et al. 2018, arXiv 1807.03748), in which an image
is told from those with another caption. At the end it prints R-precision among 16 on real images
of both splits, in their order and in a wrong one (chance, 1/16). About five minutes of one CPU
core; needs MiniLM (see `xmc_jax/encoders/bert.py`).
"""
from __future__ import annotations

import argparse
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from xmc_jax.data import source
from xmc_jax.evals import alignment
from xmc_jax.evals.judges import alignment_net

SHIFT = 5.0  # pixels
SCALE = (0.85, 1.2)  # pixels of the original per pixel
BLUR = (0.7, 1.6)  # half-width of the resampling tent, in pixels
LIGHT = 0.1  # of colours, which captions name: a little
NOISE = 0.02  # of images, and of sentence vectors of unit length
ROWS = 12_000  # images of a set that are kept in memory, and about as many captions
REPORT = 100  # steps between two lines of the log


class Images:
  """The training images and the sentence vectors of their captions, in memory."""

  def __init__(self, name: str, seed: int):
    """Takes up to `ROWS` images; of a large set, few of each image's captions."""
    data, rng = source.load(name, 'train', alignment_net.SIDE), np.random.default_rng(seed)
    chosen = rng.permutation(len(data))[:ROWS]
    self.images = np.stack([data.image(i) for i in chosen])
    self.flippable = np.broadcast_to(data.flippable, len(data))[chosen]
    most = max(1, ROWS // len(chosen))
    captions = [rng.permutation(data.captions(i))[:most] for i in chosen]
    strings, where = np.unique(np.concatenate(captions), return_inverse=True)
    self.vectors = alignment.sentences(strings)
    self.vectors /= np.linalg.norm(self.vectors, axis=1, keepdims=True)
    self.kinds = np.split(where, np.cumsum([len(row) for row in captions])[:-1])

  def draw(self, rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    """A batch of different images, each with one caption; `kind` is equal for equal captions."""
    at = rng.choice(len(self.images), rows, replace=False)
    kind = np.array([rng.choice(self.kinds[i]) for i in at])
    return {'image': self.images[at], 'flippable': self.flippable[at], 'kind': kind,
            'sentence': self.vectors[kind]}


def tents(rng: jax.Array, rows: int, mirrored: jax.Array) -> jax.Array:
  """Matrices [rows, side, side] that shift, scale, blur and mirror one axis of an image."""
  keys = jax.random.split(rng, 3)
  shape, at = (rows, 1, 1), jnp.arange(alignment_net.SIDE) - (alignment_net.SIDE - 1) / 2
  scale = jax.random.uniform(keys[0], shape, minval=SCALE[0], maxval=SCALE[1])
  shift = jax.random.uniform(keys[1], shape, minval=-SHIFT, maxval=SHIFT)
  width = jax.random.uniform(keys[2], shape, minval=BLUR[0], maxval=BLUR[1])
  wanted = jnp.clip(at[:, None] * scale + shift, at[0], at[-1])  # the border is repeated
  wanted = jnp.where(mirrored[:, None, None], -wanted, wanted)
  weights = jax.nn.relu(1 - jnp.abs(wanted - at) / width)
  return weights / weights.sum(-1, keepdims=True)


def augment(rng: jax.Array, batch: dict) -> jax.Array:
  """The batch's images in [0, 1], each a little changed in a way that its captions survive."""
  images, rows = batch['image'].astype(jnp.float32) / 255, len(batch['image'])
  keys = jax.random.split(rng, 6)
  mirrored = batch['flippable'] & jax.random.bernoulli(keys[0], shape=(rows,))
  down = tents(keys[1], rows, jnp.zeros(rows, bool))
  x = jnp.einsum('bij,bjwc->biwc', down, images)
  x = jnp.einsum('bij,bhjc->bhic', tents(keys[2], rows, mirrored), x)
  x *= jax.random.uniform(keys[3], (rows, 1, 1, 3), minval=1 - LIGHT, maxval=1 + LIGHT)
  x += jax.random.uniform(keys[4], (rows, 1, 1, 1), minval=-LIGHT, maxval=LIGHT)
  return jnp.clip(x + NOISE * jax.random.normal(keys[5], x.shape), 0, 1)


def make_step(module: alignment_net.Judge, optimizer: optax.GradientTransformation):
  """The training step: (variables, optimiser's state, rng, batch) to (both anew, loss)."""

  def loss_of(variables, rng, batch):
    image_rng, text_rng = jax.random.split(rng)
    noise = NOISE * jax.random.normal(text_rng, batch['sentence'].shape)
    images, captions, factor = module.apply(
      variables, augment(image_rng, batch), batch['sentence'] + noise)
    scores = factor * images @ captions.T
    rows = len(scores)
    equal = (batch['kind'][:, None] == batch['kind']) & ~jnp.eye(rows, dtype=bool)
    scores = jnp.where(equal, -jnp.inf, scores)
    own = jax.nn.log_softmax(scores, 0) + jax.nn.log_softmax(scores, 1)
    return -jnp.mean(jnp.diagonal(own)) / 2

  @jax.jit
  def step(variables, state, rng, batch):
    loss, grads = jax.value_and_grad(loss_of)(variables, rng, batch)
    updates, state = optimizer.update(grads, state, variables)
    return optax.apply_updates(variables, updates), state, loss
  return step


def train(images: Images, steps: int, rows: int, seed: int) -> dict:
  """Trains a judge; returns its variables."""
  module = alignment_net.Judge()
  variables = module.init(
    jax.random.key(seed), jnp.zeros((1, alignment_net.SIDE, alignment_net.SIDE, 3)), jnp.zeros((1, alignment_net.SENTENCE)))
  rate = optax.warmup_cosine_decay_schedule(0.0, 2e-3, min(100, steps // 4), steps)
  optimizer = optax.adamw(rate, weight_decay=0.05)
  step, state = make_step(module, optimizer), optimizer.init(variables)
  rng, losses, began = np.random.default_rng(seed), [], time.time()
  for i in range(steps):
    key = jax.random.key(seed * steps + i)
    variables, state, loss = step(variables, state, key, images.draw(rng, rows))
    losses.append(loss)
    if (i + 1) % REPORT == 0:
      mean = np.mean(losses[-REPORT:])
      print(f'step {i + 1}, {time.time() - began:.0f} s, loss {mean:.3f}', flush=True)
  return variables


def measure(
    name: str, split: str, which: str, rows: int = 1000, seed: int = 0) -> dict[str, float]:
  """R-precision among 16 of up to `rows` real images, in their order and shuffled."""
  data = source.load(name, split, alignment_net.SIDE)
  rng = np.random.default_rng(seed)
  chosen = rng.permutation(len(data))[:rows]
  images = np.stack([data.image(i) for i in chosen]) / np.float32(255)
  embeddings = alignment.image_codes(images, which)
  captions = [str(rng.choice(data.captions(i))) for i in chosen]
  texts = alignment.caption_codes(captions, which)
  shuffled = embeddings[rng.permutation(len(embeddings))]
  return {'rows': len(chosen),
          'real': alignment.r_precision(embeddings, texts, captions=captions),
          'shuffled': alignment.r_precision(shuffled, texts, captions=captions)}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--data', required=True, help='the data set, see xmc_jax/data/source.py')
  parser.add_argument('--steps', type=int, default=700)
  parser.add_argument('--rows', type=int, default=128, help='images of a step')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--out', type=pathlib.Path, help='the weights; default: those of the package')
  flags = parser.parse_args()
  out = flags.out or alignment_net.path_of(flags.data)
  images = Images(flags.data, flags.seed)
  alignment_net.save(out, train(images, flags.steps, flags.rows, flags.seed))
  for split in ('train', 'heldout'):
    print(split, measure(flags.data, split, str(out)))


if __name__ == '__main__':
  main()
