"""Trains an alignment network for `xmc_jax.evals.alignment` on real images, and evaluates it.

    python tools/train_alignment_net.py --data emoji [--steps 700] [--out FILE]

Every step takes images of the train split, each with one of its captions, and minimizes the
symmetric InfoNCE loss of the batch (van den Oord et al. 2018, arXiv 1807.03748); images with equal
captions are not negatives of each other. At the end it prints R-precision with 16 candidates on
real images of both splits, with correct and with shuffled captions (chance, 1/16). It takes about
five minutes of one CPU core and needs MiniLM (see `xmc_jax/encoders/bert.py`).
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
from xmc_jax.evals.networks import alignment_net

SHIFT = 5.0  # pixels
SCALE = (0.85, 1.2)  # pixels of the original per pixel
BLUR = (0.7, 1.6)  # half-width of the resampling tent, in pixels
LIGHT = 0.1  # change of colors; small, because captions name them
NOISE = 0.02  # of images, and of sentence embeddings of unit length
MAX_IMAGES = 12_000  # kept in memory, with about as many captions
REPORT = 100  # steps between two lines of the log


class TrainingSet:
  """Training images and the sentence embeddings of their captions, in memory."""

  def __init__(self, name: str, seed: int):
    """Loads up to `MAX_IMAGES` images; in a large set, only some captions of each."""
    data, rng = source.load(name, 'train', alignment_net.SIDE), np.random.default_rng(seed)
    chosen = rng.permutation(len(data))[:MAX_IMAGES]
    self.images = np.stack([data.image(i) for i in chosen])
    self.flippable = np.broadcast_to(data.flippable, len(data))[chosen]
    most = max(1, MAX_IMAGES // len(chosen))
    captions = [rng.permutation(data.captions(i))[:most] for i in chosen]
    strings, where = np.unique(np.concatenate(captions), return_inverse=True)
    self.vectors = alignment.sentences(strings)
    self.vectors /= np.linalg.norm(self.vectors, axis=1, keepdims=True)
    self.kinds = np.split(where, np.cumsum([len(row) for row in captions])[:-1])

  def batch(self, rng: np.random.Generator, size: int) -> dict[str, np.ndarray]:
    """A batch of distinct images, each with one caption; equal captions have equal `kind`."""
    at = rng.choice(len(self.images), size, replace=False)
    kind = np.array([rng.choice(self.kinds[i]) for i in at])
    return {'image': self.images[at], 'flippable': self.flippable[at], 'kind': kind,
            'sentence': self.vectors[kind]}


def tents(rng: jax.Array, rows: int, mirrored: jax.Array) -> jax.Array:
  """Matrices [rows, side, side] that shift, scale, blur and mirror an image along one axis."""
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
  """The batch's images in [0, 1], augmented so that their captions stay true."""
  images, rows = batch['image'].astype(jnp.float32) / 255, len(batch['image'])
  keys = jax.random.split(rng, 6)
  mirrored = batch['flippable'] & jax.random.bernoulli(keys[0], shape=(rows,))
  down = tents(keys[1], rows, jnp.zeros(rows, bool))
  x = jnp.einsum('bij,bjwc->biwc', down, images)
  x = jnp.einsum('bij,bhjc->bhic', tents(keys[2], rows, mirrored), x)
  x *= jax.random.uniform(keys[3], (rows, 1, 1, 3), minval=1 - LIGHT, maxval=1 + LIGHT)
  x += jax.random.uniform(keys[4], (rows, 1, 1, 1), minval=-LIGHT, maxval=LIGHT)
  return jnp.clip(x + NOISE * jax.random.normal(keys[5], x.shape), 0, 1)


def make_step(module: alignment_net.AlignmentNet, optimizer: optax.GradientTransformation):
  """The training step: (variables, optimizer state, rng, batch) to the first two and the loss."""

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


def train(images: TrainingSet, steps: int, batch_size: int, seed: int) -> dict:
  """Trains an alignment network; returns its variables."""
  module = alignment_net.AlignmentNet()
  variables = module.init(
    jax.random.key(seed), jnp.zeros((1, alignment_net.SIDE, alignment_net.SIDE, 3)),
    jnp.zeros((1, alignment_net.SENTENCE)))
  rate = optax.warmup_cosine_decay_schedule(0.0, 2e-3, min(100, steps // 4), steps)
  optimizer = optax.adamw(rate, weight_decay=0.05)
  step, state = make_step(module, optimizer), optimizer.init(variables)
  rng, losses, began = np.random.default_rng(seed), [], time.time()
  for i in range(steps):
    key = jax.random.key(seed * steps + i)
    variables, state, loss = step(variables, state, key, images.batch(rng, batch_size))
    losses.append(loss)
    if (i + 1) % REPORT == 0:
      mean = np.mean(losses[-REPORT:])
      print(f'step {i + 1}, {time.time() - began:.0f} s, loss {mean:.3f}', flush=True)
  return variables


def measure(
    name: str, split: str, network: str, count: int = 1000, seed: int = 0) -> dict[str, float]:
  """R-precision with 16 candidates of up to `count` real images, matched and shuffled."""
  data = source.load(name, split, alignment_net.SIDE)
  rng = np.random.default_rng(seed)
  chosen = rng.permutation(len(data))[:count]
  images = np.stack([data.image(i) for i in chosen]) / np.float32(255)
  embeddings = alignment.image_embeddings(images, network)
  captions = [str(rng.choice(data.captions(i))) for i in chosen]
  texts = alignment.caption_embeddings(captions, network)
  shuffled = embeddings[rng.permutation(len(embeddings))]
  return {'images': len(chosen),
          'real': alignment.r_precision(embeddings, texts, captions=captions),
          'shuffled': alignment.r_precision(shuffled, texts, captions=captions)}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--data', required=True, help='data set, see xmc_jax/data/source.py')
  parser.add_argument('--steps', type=int, default=700)
  parser.add_argument('--batch_size', type=int, default=128)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--out', type=pathlib.Path,
                      help='weight file; default: the one in the package')
  flags = parser.parse_args()
  out = flags.out or alignment_net.path_of(flags.data)
  images = TrainingSet(flags.data, flags.seed)
  alignment_net.save(out, train(images, flags.steps, flags.batch_size, flags.seed))
  for split in ('train', 'heldout'):
    print(split, measure(flags.data, split, str(out)))


if __name__ == '__main__':
  main()
