"""Spectral normalization (Miyato et al. 2018) as a function of the parameter tree.

The network itself knows nothing of it: the caller normalizes the parameters and applies the network
to them. All calls of a phase share one power iteration and one normalized tree, and no state is
updated implicitly.
"""
import jax
import jax.numpy as jnp
from flax import traverse_util

from xmc_jax.types import Array, Tree


def _kernels(params: Tree) -> dict[tuple[str, ...], Array]:
  return {k: v for k, v in traverse_util.flatten_dict(params).items() if k[-1] == 'kernel'}


def _direction(x: Array, epsilon: float) -> Array:
  return x * jax.lax.rsqrt(jnp.sum(x * x) + epsilon)


def init_vectors(rng: Array, params: Tree) -> Tree:
  """A random unit vector [outputs] for every leaf of `params` named 'kernel'."""
  kernels = sorted(_kernels(params).items())
  keys = jax.random.split(rng, len(kernels))
  return traverse_util.unflatten_dict({
      path: _direction(jax.random.normal(key, kernel.shape[-1:]), 1e-10)
      for key, (path, kernel) in zip(keys, kernels)})


def spectral_normalize(params: Tree, vectors: Tree, *, advance: bool = True,
                       epsilon: float = 1e-10) -> tuple[Tree, Tree]:
  """Every kernel [..., outputs] divided by its largest singular value, and the next vectors.

  One power iteration from `vectors`; gradients flow through sigma but not through the vectors. With
  `advance=False` the vectors are returned unchanged (for evaluation and penalties). A kernel is
  taken as the matrix [all other axes, outputs].
  """
  flat = traverse_util.flatten_dict(params)
  next_vectors = {}
  for path, u in traverse_util.flatten_dict(vectors).items():
    matrix = flat[path].reshape(-1, flat[path].shape[-1])
    still = jax.lax.stop_gradient(matrix)
    v = _direction(still @ u, epsilon)
    u_next = _direction(v @ still, epsilon)
    sigma = v @ matrix @ u_next
    flat[path] = flat[path] / sigma
    next_vectors[path] = u_next if advance else u
  return traverse_util.unflatten_dict(flat), traverse_util.unflatten_dict(next_vectors)
