"""What networks say of many images, read in batches of one shape over all devices.

Images come from files or from a generator; either way they become uint8 on the device before any
network sees them, as if they had been saved. The next batch is under way while the last is fetched.
"""
from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xmc_jax.evals.image_sets import Images
from xmc_jax.training.mesh import by_row, put_whole, replicated
from xmc_jax.types import Array, Tree, UserError
from xmc_jax.utils.progress import Progress

# Images of a batch on each device, by backend, and of other backends. No setting, since matrix
# products of another size round otherwise: so the same kind of device gives the same features,
# however many there are.
ROWS = {'cpu': 16}
OTHER_ROWS = 64
IN_FLIGHT = 2       # batches


@dataclasses.dataclass(frozen=True)
class Reader:
  """A network that reads images.

  name       under which its answers are kept
  variables  of the network, an argument of the program and never a constant of it
  read       (variables, images) -> tree of arrays [b, ...]; images uint8 [b, h, w, 3], or what
             `prepare` made of them
  prepare    on the host first, uint8 [b, h, w, 3] to what `read` takes; None: nothing
  sha256     of the weights, for manifests
  """
  name: str
  variables: Tree
  read: Callable[[Tree, Array], Tree]
  prepare: Callable[[np.ndarray], np.ndarray] | None = None
  sha256: str = ''


@dataclasses.dataclass(frozen=True)
class Painter:
  """A generator: `paint(weights, inputs)` gives float [b, h, w, 3] in [0, 1].

  `inputs` are arrays [n, ...] for all n images, `weights` is a tree on the devices.
  """
  what: str
  paint: Callable[[Tree, Mapping[str, Array]], Array]
  weights: Tree
  inputs: Mapping[str, np.ndarray]

  def __len__(self) -> int:
    return len(next(iter(self.inputs.values())))


def as_saved(images: Array) -> Array:
  """float [0, 1] to uint8, rounded as `image_io.grid` rounds; outside is clipped, NaN is black."""
  return jnp.round(jnp.clip(jnp.nan_to_num(images.astype(jnp.float32)), 0, 1) * 255
                   ).astype(jnp.uint8)


class Collector:
  """Reads sets of images with the same networks; compiles once for each kind of set and size."""

  def __init__(self, readers: Sequence[Reader], mesh: jax.sharding.Mesh):
    platform = mesh.devices.flat[0].platform
    self._rows = ROWS.get(platform, OTHER_ROWS) * mesh.size
    self._by_row, everywhere = by_row(mesh, rounds=False), replicated(mesh)
    self._direct = [reader for reader in readers if reader.prepare is None]
    self._prepared = [reader for reader in readers if reader.prepare is not None]
    self._variables = put_whole({r.name: r.variables for r in readers}, everywhere)

    def look(variables, images):
      return {r.name: r.read(variables[r.name], images) for r in self._direct}

    def look_and_show(variables, images):
      return look(variables, images), images if self._prepared else None

    def draw(variables, weights, inputs, paint):
      images = paint(weights, inputs)
      return *look_and_show(variables, as_saved(images)), jnp.isfinite(images).all((1, 2, 3))

    jit = lambda f, **how: jax.jit(f, out_shardings=everywhere, **how)
    self._look, self._draw = jit(look_and_show), jit(draw, static_argnums=3)
    self._read = {r.name: jit(r.read) for r in self._prepared}

  def __call__(self, images: Images | Painter, *, quiet: bool = False) -> dict[str, Tree]:
    """{reader's name: its answers as numpy arrays [n, ...]}, in the order of the images.

    UserError for a generator whose images are not finite, and what reading them raises.
    """
    total, begin = len(images), self._from(images)
    progress = Progress(images.what, total, quiet=quiet or jax.process_index() > 0)
    under_way: collections.deque[tuple[int, Any]] = collections.deque()
    parts: list[dict[str, Tree]] = []

    def fetch():
      stop, answer = under_way.popleft()
      parts.append(self._finish(min(self._rows, total - (stop - self._rows)), *answer))
      progress.reach(min(stop, total))

    for start in range(0, total, self._rows):
      rows = np.minimum(np.arange(start, start + self._rows), total - 1)  # the last one is filled
      under_way.append((start + self._rows, begin(rows)))
      if len(under_way) == IN_FLIGHT:
        fetch()
    while under_way:
      fetch()
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)

  def _from(self, images: Images | Painter) -> Callable[[np.ndarray], Any]:
    """What starts the program on some rows of a set."""
    if isinstance(images, Painter):
      return lambda rows: self._draw(
          self._variables, images.weights,
          put_whole({k: v[rows] for k, v in images.inputs.items()}, self._by_row),
          images.paint)
    size = images.read([0]).shape[1:]
    # Each process reads the rows of its own devices alone.
    return lambda rows: self._look(self._variables, jax.make_array_from_callback(
        (len(rows), *size), self._by_row, lambda index: images.read(rows[index[0]])))

  def _finish(self, rows: int, answers: dict[str, Tree], shown: Array | None,
              numbers: Array | None = None) -> dict[str, Tree]:
    answers = jax.device_get(answers)
    if numbers is not None and not np.all(numbers):
      raise UserError('the generator draws images that hold NaN or infinity, so no score is '
                      'given; evaluate an earlier checkpoint with --step')
    if shown is not None:
      shown = np.asarray(shown)
      for reader in self._prepared:
        ready = put_whole(reader.prepare(shown), self._by_row)
        answers[reader.name] = jax.device_get(
            self._read[reader.name](self._variables[reader.name], ready))
    return jax.tree.map(lambda x: x[:rows], answers)

