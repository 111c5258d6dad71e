"""Runs a generator on captions and noise, and searches for noise whose image shows its caption.

The search is gradient ascent on the score of `Method.match`, as BigGAN is steered by CLIP in the
Big Sleep (Murdock 2021) and as LOGAN does in training (Wu et al. 2019, arXiv 1912.00953). Keeping
the length of the noise, where almost all of a normal distribution of many dimensions lies, is as in
PULSE (Menon et al. 2020, arXiv 2003.03808).
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from xmc_jax.methods import Method
from xmc_jax.training.mesh import by_row, put_whole, replicated
from xmc_jax.types import Array, Batch, Tree, UserError
from xmc_jax.utils.arrays import unit

STEP = 0.02        # of the search: the share of the noise's length that one gradient moves it by
MOMENTUM = 0.7
SMALLER = 4        # a batch of the search than others; its gradients cost several images each


class Sampler:
  """Runs a generator on any number of captions, in batches of one shape over all devices.

  tree: {'params', 'stats', 'frozen'} of the generator, and {'params', 'stats'} of the discriminator
  as 'd', for the scores and for the search.
  """

  def __init__(self, method: Method, mesh: jax.sharding.Mesh, batch: int = 32):
    assert method.sample, 'this method draws no images'
    self._sample, self._match, self._mesh, self._batch = method.sample, method.match, mesh, batch
    self._by_row = by_row(mesh, rounds=False)
    self._draw = jax.jit(self.scored, out_shardings=replicated(mesh))
    self._step = jax.jit(self.step, out_shardings=self._by_row)
    self._replaced = method.replaced and jax.jit(method.replaced, out_shardings=replicated(mesh))

  def scored(self, tree: Tree, batch: Batch, z: Array) -> tuple[Array, Array]:
    """Images [b, h, w, 3] of noise, and their scores [b]: 0 without a discriminator."""
    images = self._sample(tree['params'], tree['stats'], tree['frozen'], batch, z)
    if not (self._match and 'd' in tree):
      return images, jnp.zeros(len(z))
    d = tree['d']
    return images, self._match(d['params'], d['stats'], tree['frozen'], batch, images)

  def step(self, tree: Tree, batch: Batch, z: Array, velocity: Array) -> tuple[Array, Array]:
    """Noise and velocity [b, z] after a step of the search. The noise keeps its length."""
    gradient = jax.grad(lambda z: self.scored(tree, batch, z)[1].sum())(z)
    velocity = MOMENTUM * velocity + unit(gradient)
    length = jnp.linalg.norm(z, axis=-1, keepdims=True)
    return length * unit(z + STEP * length * velocity), velocity

  def __call__(self, tree: Tree, captions: Sequence[str], inputs: Mapping[str, np.ndarray],
               steps: int = 0) -> Iterator[tuple[np.ndarray, float]]:
    """Yields images float32 [h, w, 3] in [0, 1], one for each of the n captions, with a score.

    inputs: tokens and mask [n, t], z [n, z features]. steps: of the search. UserError if an image
    is not finite.
    """
    for start, batch in self._batches(inputs, self._batch // (SMALLER if steps else 1)):
      noise = batch.pop('z')
      velocity = jnp.zeros_like(noise)
      # One step at a time, because XLA runs convolutions slowly in a loop of its own on CPUs.
      for _ in range(steps):
        noise, velocity = self._step(tree, batch, noise, velocity)
      drawn = jax.device_get(self._draw(tree, batch, noise))
      for image, score, caption in zip(*drawn, captions[start:]):
        if not np.isfinite(image).all():
          raise UserError(f'the generator gives NaN or infinity for the caption {caption!r}, so '
                          'there is no image of it; take an earlier checkpoint with --step')
        yield image, float(score)

  def drawn_tokens(self, tree: Tree, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Tokens [n, t] of the captions that are drawn for those of tokens and mask [n, t]."""
    if not self._replaced:
      return inputs['tokens']
    found = [jax.device_get(self._replaced(tree['frozen'], batch)['tokens'])
             for _, batch in self._batches(inputs, self._batch)]
    return np.concatenate(found or [inputs['tokens']])[:len(inputs['tokens'])]

  def _batches(self, inputs: Mapping[str, np.ndarray], size: int) -> Iterator[tuple[int, Batch]]:
    """Batches of inputs [n, ...] on the devices, each with the number of its first example."""
    n, size = len(inputs['tokens']), -(-size // self._mesh.size) * self._mesh.size
    for start in range(0, n, size):
      # The last batch is filled up with copies of the last example.
      indices = np.minimum(np.arange(start, start + size), n - 1)
      yield start, {name: put_whole(x[indices], self._by_row) for name, x in inputs.items()}
