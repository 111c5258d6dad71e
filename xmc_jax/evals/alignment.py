"""Whether an image shows its own caption: R-precision by a judge that comes with the project.

R-precision (`retrieval.py`): the share of images whose own caption is, by the products of codes,
nearer than all of a few captions drawn from other images. The judge saw real training images
only, so, unlike a DAMSM that is also a loss, no generator has been trained to please it. Figures of
other judges, or among another number of captions, are not comparable.

What to compare a figure with: on real held-out images the judge `emoji` reaches 0.58 (every one
shows a thing that it has never seen; 0.99 on real training images), `emoji_scenes` 0.98 (0.995).
Chance is 1/16.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import bert
from xmc_jax.evals.judges import alignment_net
from xmc_jax.evals.retrieval import AMONG, r_precision
from xmc_jax.types import Array

LENGTH = 64  # word pieces of a caption; what is longer is cut
BATCH = 128


def alignment(
    images: Array, captions: Sequence[str], which: str, group: int = AMONG,
    seed: int = 0) -> float:
  """The share of images that the judge finds nearest to their own caption among `among`.

  Args:
    images: [n, h, w, 3] in [0, 1], of any size.
    captions: n strings, image i was made from caption i.
    which: the judge, a name or path as `xmc_jax.evals.judges.alignment_net.find` takes it.
    among: captions that each image is compared with, its own included.
    seed: of the draw of the others; the same seed gives the same draws.
  Returns:
    A share in [0, 1]; chance is 1 / among.
  Raises:
    UserError: MiniLM is not installed, there is no such judge, or too few rows to draw from.
  """
  if len(images) != len(captions):
    raise ValueError(f'{len(images)} images but {len(captions)} captions')
  embeddings = image_codes(images, which), caption_codes(captions, which)
  return r_precision(*embeddings, group, seed, captions=captions)


def image_codes(images: Array, which: str) -> np.ndarray:
  """The codes of images [n, h, w, 3] in [0, 1], resized to the judge's 64 x 64: [n, d]."""
  encode, _ = _judge(which)
  return _in_batches(encode, np.asarray(images, np.float32))


def caption_codes(captions: Sequence[str], which: str) -> np.ndarray:
  """The codes of n captions, [n, d]; UserError if MiniLM is not installed."""
  _, encode = _judge(which)
  return _in_batches(encode, sentences(captions))


def sentences(captions: Sequence[str]) -> np.ndarray:
  """MiniLM's sentence vectors, the masked means of its words: [n, 384] float32."""
  tokenizer, encode = _minilm()
  tokens, mask = tokenizer.encode(captions)
  longest = -(-int(mask.sum(1).max()) // 8) * 8  # in eights, so that few lengths are compiled
  return _in_batches(encode, tokens[:, :longest], mask[:, :longest])


@functools.cache
def _minilm() -> tuple[Tokenizer, Callable]:
  folder = bert.find(bert.MINILM)
  module, variables = bert.load(folder)

  @jax.jit
  def encode(variables, tokens, mask):
    return bert.sentence(module.apply(variables, tokens, mask), mask)
  return Tokenizer(folder, LENGTH), functools.partial(encode, variables)


@functools.cache
def _judge(which: str) -> tuple[Callable, Callable]:
  module, variables = alignment_net.load(alignment_net.find(which))

  @jax.jit
  def embed_images(variables, images):
    return module.apply(variables, at_side(images), method='image')

  @jax.jit
  def embed_captions(variables, vectors):
    return module.apply(variables, vectors, method='caption')
  return (functools.partial(embed_images, variables),
          functools.partial(embed_captions, variables))


def at_side(images: Array) -> Array:
  """Images [b, h, w, 3] at the judge's size, bilinear, with antialiasing on the way down."""
  b, h, w, c = images.shape
  if (h, w) == (alignment_net.SIDE, alignment_net.SIDE):
    return images
  return jnp.clip(jax.image.resize(images, (b, alignment_net.SIDE, alignment_net.SIDE, c), 'linear'), 0, 1)


def _in_batches(encode: Callable, *rows: np.ndarray) -> np.ndarray:
  """`encode` over rows of any number; every call has the same shapes, the last one is padded."""
  embeddings = []
  for start in range(0, len(rows[0]), BATCH):
    part = [x[start:start + BATCH] for x in rows]
    padded = [np.pad(x, [(0, BATCH - len(x))] + [(0, 0)] * (x.ndim - 1)) for x in part]
    embeddings.append(np.asarray(encode(*padded))[:len(part[0])])
  return np.concatenate(embeddings)
