"""Extracts features of many images with frozen networks, in batches of one shape over all devices.

Images come from files or from a generator. Generated images are rounded to uint8 on the device
before a network sees them, exactly as if they had been saved to files. While one batch is being
fetched, the next one already runs.
"""
from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xmc_jax.evals.image_sets import ImageSet
from xmc_jax.training.mesh import by_row, put_whole, replicated
from xmc_jax.types import Array, NotFinite, Tree
from xmc_jax.utils.progress import Progress

# Batch size per device, by backend. Not configurable: matrix products of another size round
# differently, so a fixed size keeps features the same for any number of devices of one kind.
BATCH_SIZES = {'cpu': 16}
DEFAULT_BATCH_SIZE = 64
MAX_IN_FLIGHT = 2       # batches


@dataclasses.dataclass(frozen=True)
class FeatureExtractor:
  """A frozen network that turns images into features.

  name        key of its features in the results
  variables   of the network; an argument of the compiled program, never a constant in it
  apply       (variables, images) -> tree of arrays [b, ...]; images are uint8 [b, h, w, 3], or
              what `preprocess` returned
  preprocess  runs on the host first, uint8 [b, h, w, 3] -> input of `apply`; None: nothing
  sha256      hash of the weights, for manifests
  """
  name: str
  variables: Tree
  apply: Callable[[Tree, Array], Tree]
  preprocess: Callable[[np.ndarray], np.ndarray] | None = None
  sha256: str = ''


  def features_of(self, size: Sequence[int]) -> Tree:
    """Shapes of the features of one image of the size [h, w, 3], without computing them."""
    image = np.zeros((1, *size), np.uint8)
    return jax.eval_shape(self.apply, self.variables,
                          self.preprocess(image) if self.preprocess else image)


@dataclasses.dataclass(frozen=True)
class GeneratedImages:
  """A set of images that a generator makes: `generate(weights, inputs)` -> [b, h, w, 3] in [0, 1].

  `inputs` are arrays [n, ...] for all n images, `weights` is a tree on the devices.
  """
  name: str
  generate: Callable[[Tree, Mapping[str, Array]], Array]
  weights: Tree
  inputs: Mapping[str, np.ndarray]

  def __len__(self) -> int:
    return len(next(iter(self.inputs.values())))


def to_uint8(images: Array) -> Array:
  """float [0, 1] to uint8, rounded as for a PNG file; clipped to the range, NaN becomes black."""
  return jnp.round(jnp.clip(jnp.nan_to_num(images.astype(jnp.float32)), 0, 1) * 255
                   ).astype(jnp.uint8)


class FeatureCollector:
  """Runs the same extractors over sets of images; compiles once per kind of set and image size."""

  def __init__(self, extractors: Sequence[FeatureExtractor], mesh: jax.sharding.Mesh):
    platform = mesh.devices.flat[0].platform
    self._batch = BATCH_SIZES.get(platform, DEFAULT_BATCH_SIZE) * mesh.size
    self._by_row, everywhere = by_row(mesh, rounds=False), replicated(mesh)
    on_device = [x for x in extractors if x.preprocess is None]
    self._on_host = [x for x in extractors if x.preprocess is not None]
    self._variables = put_whole({x.name: x.variables for x in extractors}, everywhere)

    @jax.default_matmul_precision('highest')      # the default of GPUs and TPUs is coarser
    def extract(variables, images):
      features = {x.name: x.apply(variables[x.name], images) for x in on_device}
      return features, images if self._on_host else None

    def generate_and_extract(variables, weights, inputs, generate):
      images = generate(weights, inputs)
      return *extract(variables, to_uint8(images)), jnp.isfinite(images).all((1, 2, 3))

    jit = lambda f, **options: jax.jit(f, out_shardings=everywhere, **options)
    self._extract = jit(extract)
    self._generate = jit(generate_and_extract, static_argnums=3)
    self._apply = {x.name: jit(jax.default_matmul_precision('highest')(x.apply))
                   for x in self._on_host}

  def __call__(self, images: ImageSet | GeneratedImages, *,
               quiet: bool = False) -> dict[str, Tree]:
    """Returns {extractor name: features as numpy arrays [n, ...]}, in the order of the images.

    Raises UserError if generated images are not finite, or an image cannot be read.
    """
    total, start_batch = len(images), self._starter(images)
    progress = Progress(images.name, total, quiet=quiet or jax.process_index() > 0)
    in_flight: collections.deque[tuple[int, Any]] = collections.deque()
    parts: list[dict[str, Tree]] = []

    def fetch():
      stop, results = in_flight.popleft()
      parts.append(self._finish(min(self._batch, total - (stop - self._batch)), *results))
      progress.reach(min(stop, total))

    for start in range(0, total, self._batch):
      # The last batch is filled up with copies of the last image.
      indices = np.minimum(np.arange(start, start + self._batch), total - 1)
      in_flight.append((start + self._batch, start_batch(indices)))
      if len(in_flight) == MAX_IN_FLIGHT:
        fetch()
    while in_flight:
      fetch()
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)

  def _starter(self, images: ImageSet | GeneratedImages) -> Callable[[np.ndarray], Any]:
    """The function that starts the program on a batch of indices."""
    if isinstance(images, GeneratedImages):
      return lambda indices: self._generate(
          self._variables, images.weights,
          put_whole({k: v[indices] for k, v in images.inputs.items()}, self._by_row),
          images.generate)
    size = images.read([0]).shape[1:]
    # Each process reads only the images of its own devices.
    return lambda indices: self._extract(self._variables, jax.make_array_from_callback(
        (len(indices), *size), self._by_row, lambda part: images.read(indices[part[0]])))

  def _finish(self, count: int, features: dict[str, Tree], images: Array | None,
              finite: Array | None = None) -> dict[str, Tree]:
    """Fetches a batch, runs the extractors that preprocess on the host, and drops the padding."""
    features = jax.device_get(features)
    if finite is not None and not np.all(finite):
      raise NotFinite('the generator produces images with NaN or infinity, so no score is given; '
                      'evaluate an earlier checkpoint with --step')
    if images is not None:
      images = np.asarray(images)
      for extractor in self._on_host:
        inputs = put_whole(extractor.preprocess(images), self._by_row)
        features[extractor.name] = jax.device_get(
            self._apply[extractor.name](self._variables[extractor.name], inputs))
    return jax.tree.map(lambda x: x[:count], features)
