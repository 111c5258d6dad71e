"""Image-text alignment: R-precision by an alignment network that comes with the package.

R-precision (`retrieval.py`) is the share of images whose own caption has a larger dot product with
them than all of a few other captions. Those are drawn from the captions of all images, so a further
caption of the same image may be among them: 50 of 990 real emoji meet one, and without these their
alignment is 59.2 in place of 57.9 %. The alignment network was trained on real images only, so,
unlike a DAMSM that is also a loss, no generator was trained to please it. Figures of other
networks, or with another number of captions, are not comparable; what real images reach is in
docs/evaluation.md.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import bert, registry
from xmc_jax.evals.batches import batch_for, in_batches
from xmc_jax.evals.networks import alignment_net
from xmc_jax.evals.retrieval import CANDIDATES, r_precision
from xmc_jax.types import Array

LENGTH = 64  # word pieces per caption; longer captions are cut
BATCH = 128


def alignment(images: Array, captions: Sequence[str], network: str,
              candidates: int = CANDIDATES, seed: int = 0) -> float:
  """The share of images that are nearest to their own caption among `candidates` captions.

  images: [n, h, w, 3] in [0, 1], of any size.
  captions: n strings; image i was generated from caption i.
  network: name or path of the alignment network, see `alignment_net.find`.
  candidates: captions that each image is compared with, including its own.
  seed: for the choice of the other captions; the same seed gives the same choice.

  Returns a share in [0, 1]; chance is 1 / candidates. Raises UserError if MiniLM is not installed,
  there is no such network, or there are too few captions to choose from.
  """
  if len(images) != len(captions):
    raise ValueError(f'{len(images)} images but {len(captions)} captions')
  embeddings = image_embeddings(images, network), caption_embeddings(captions, network)
  return r_precision(*embeddings, candidates, seed, captions=captions)


def image_embeddings(images: Array, network: str) -> np.ndarray:
  """Unit vectors [n, d] of images [n, h, w, 3] in [0, 1], which are resized to 64 x 64."""
  encode, _ = _encoders(network)
  return in_batches(encode, np.asarray(images, np.float32), batch=batch_for(len(images), BATCH))


def caption_embeddings(captions: Sequence[str], network: str) -> np.ndarray:
  """Unit vectors [n, d] of n captions. UserError if MiniLM is not installed."""
  _, encode = _encoders(network)
  return in_batches(encode, sentences(captions), batch=batch_for(len(captions), BATCH))


def sentences(captions: Sequence[str]) -> np.ndarray:
  """MiniLM sentence embeddings, float32 [n, 384]: the mean over the words of each caption."""
  tokenizer, encode = _minilm()
  tokens, mask = tokenizer.encode(captions)
  # Rounded up to a multiple of 8, so that few lengths are compiled.
  longest = -(-int(mask.sum(1).max()) // 8) * 8
  return in_batches(encode, tokens[:, :longest], mask[:, :longest],
                    batch=batch_for(len(captions), BATCH))


@functools.cache
def _minilm() -> tuple[Tokenizer, Callable]:
  folder = bert.find(bert.MINILM)
  registry.check_named(bert.MINILM, folder)
  module, variables = bert.load(folder)

  @jax.jit
  def encode(variables, tokens, mask):
    return bert.sentence(module.apply(variables, tokens, mask), mask)
  return Tokenizer(folder, LENGTH), functools.partial(encode, variables)


@functools.cache
def _encoders(network: str) -> tuple[Callable, Callable]:
  """The image encoder and the caption encoder of an alignment network."""
  module, variables = alignment_net.load(alignment_net.find(network))

  embed_images = jax.jit(lambda variables, images: module.apply(
      variables, resized(images, alignment_net.SIDE), method='image'))
  embed_captions = jax.jit(functools.partial(module.apply, method='caption'))
  return (functools.partial(embed_images, variables),
          functools.partial(embed_captions, variables))


def resized(images: Array, side: int) -> Array:
  """Images [b, h, w, 3] in [0, 1] to [b, side, side, 3], bilinear; antialiased when shrinking."""
  b, h, w, c = images.shape
  if (h, w) == (side, side):
    return images
  return jnp.clip(jax.image.resize(images, (b, side, side, c), 'linear'), 0, 1)
