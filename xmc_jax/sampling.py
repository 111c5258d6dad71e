"""From captions and noise to images, with a trained generator."""
from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from etils import epath

from xmc_jax import config as defaults
from xmc_jax import methods
from xmc_jax.data.text import Tokenizer
from xmc_jax.methods import Method
from xmc_jax.training.checkpoint import Checkpoints
from xmc_jax.training.mesh import by_row, make_mesh, put_whole, replicated
from xmc_jax.types import Array, Tree, UserError
from xmc_jax.weight_files import files


def draw_noise(rng: Array, rows: int, features: int, truncation: float | None = None) -> Array:
  """Noise float32 [rows, features], standard normal; values beyond +-truncation are drawn again.

  Low truncation gives safer and less varied images (Brock et al. 2018, arXiv 1809.11096).
  """
  if truncation is None:
    return jax.random.normal(rng, (rows, features))
  if not truncation > 0:
    raise UserError(f'--truncation = {truncation} must be above 0; 0.5 is strong, 2 weak')
  return jax.random.truncated_normal(rng, -truncation, truncation, (rows, features))


class Sampler:
  """Draws any number of captions in batches of one shape, spread over the devices of a mesh."""

  def __init__(self, method: Method, mesh: jax.sharding.Mesh, rows: int = 32):
    assert method.sample, 'this method draws no images'
    self._rows = -(-rows // mesh.size) * mesh.size
    self._by_row, everywhere = by_row(mesh, rounds=False), replicated(mesh)
    self._sample = jax.jit(method.sample, out_shardings=everywhere)

  def __call__(self, params: Tree, stats: Tree, frozen: dict[str, Tree], tokens: np.ndarray,
               mask: np.ndarray, z: Array | np.ndarray) -> np.ndarray:
    """tokens, mask [n, t] and z [n, z features] -> images float32 [n, h, w, 3] in [0, 1]."""
    n, noise, images = len(tokens), np.asarray(z), []
    for start in range(0, n, self._rows):
      chosen = np.minimum(np.arange(start, start + self._rows), n - 1)    # the last batch is filled
      put = lambda x: put_whole(x[chosen], self._by_row)
      batch = {'tokens': put(tokens), 'mask': put(mask)}
      images.append(jax.device_get(self._sample(params, stats, frozen, batch, put(noise))))
    return np.concatenate(images)[:n]


def read_config(checkpoints: Checkpoints, step: int | None = None) -> ml_collections.ConfigDict:
  """The config that a run was made with; keys that it did not know yet have their defaults."""
  return _config(checkpoints.meta(step))


def _config(meta: Mapping[str, Any]) -> ml_collections.ConfigDict:
  config = defaults.base()
  with config.unlocked():
    config.update(ml_collections.ConfigDict(meta['config']))
  return config


def find_encoder(trained: str, given: str | os.PathLike[str] | None) -> str:
  """The text encoder of a run on this machine: `given`, or what the config of the run says.

  A path of the machine that trained is looked for by its last part in the folders of weights too.
  """
  path = pathlib.Path(trained).expanduser()
  if given is not None:
    return str(given)
  if len(path.parts) == 1 or path.is_dir():      # a name, which the method knows to find
    return trained
  places = [folder / path.name for folder in files.folders()]
  found = next((place for place in places if place.is_dir()), None)
  if found is None:
    raise UserError(f'The text encoder {trained} of this run is not here, nor is '
                    f'{" or ".join(map(str, places))}; give its folder with --text_encoder FOLDER')
  return str(found)


def _check_frozen(frozen: Mapping[str, Tree], trained: Mapping[str, str], where: str) -> None:
  """UserError for frozen weights that are not those of the training: they would draw nonsense."""
  for name, tree in frozen.items():
    found = files.fingerprint(tree)
    if found != trained.get(name, found):
      raise UserError(
          f'The {name} encoder {where} is not the one that this run was trained with: the sha256 '
          f'of its numbers is {found} instead of {trained[name]}; give the folder of the right one '
          'with --text_encoder FOLDER')


@dataclasses.dataclass(frozen=True)
class TextToImage:
  """A trained generator and all it needs to draw; the checkpoint tells how it was made.

  paint: (tree, inputs) -> images [b, h, w, 3] in [0, 1], to be traced; `tree` holds the weights,
    `inputs` are those of `inputs`. The same function for every checkpoint of the run.
  """
  config: ml_collections.ConfigDict
  step: int
  weights: str                  # 'averaged' or 'live'
  tokenizer: Tokenizer
  z_features: int
  mesh: jax.sharding.Mesh
  paint: Callable[[Tree, Mapping[str, Array]], Array]
  tree: Tree
  _folder: epath.Path
  _spec: Tree
  _sampler: Sampler

  @classmethod
  def load(cls, workdir: str | os.PathLike[str], *, step: int | None = None, live: bool = False,
           text_encoder: str | os.PathLike[str] | None = None) -> TextToImage:
    """The generator of a run, of its newest checkpoint or of `step`.

    Averaged weights unless `live`. The checkpoint has all that drawing needs but the text encoder,
    which is the one that the config names, or the folder `text_encoder`. UserError for a run
    without that checkpoint, a damaged one, or a text encoder that is missing or another.
    """
    folder = epath.Path(workdir) / 'checkpoints'
    with Checkpoints(folder, every=None) as checkpoints:
      meta = checkpoints.meta(step)
    if 'g' not in meta['config']['optim']:
      raise UserError(f'The run {workdir} draws no images: it trained an encoder; give the run '
                      'of a generator.')
    config, here = _config(meta), _config(meta)
    here.text.encoder = find_encoder(config.text.encoder, text_encoder)
    method, mesh = methods.build(here), make_mesh()
    program = methods.program(method, config, mesh)
    g = program.state_spec.networks['g']

    sample = method.sample
    assert sample, 'a method that trains a generator draws with it'

    def paint(tree, inputs):
      return sample(tree['params'], tree['stats'], tree['frozen'], inputs, inputs['z'])

    frozen = method.load_frozen(method.sample_needs)
    _check_frozen(frozen, meta.get('frozen', {}), here.text.encoder)
    tree = {'frozen': program.put_frozen(frozen)}
    tokenizer = (Tokenizer.parse(meta['tokenizer'], config.text.length, str(folder))
                 if 'tokenizer' in meta else       # as before checkpoints had it
                 method.tokenizer())
    model = cls(config, -1, '', tokenizer, method.z_features, mesh, paint, tree, folder,
                 {'params': g.params, 'stats': g.stats}, Sampler(method, mesh))
    return model.at(step, live=live)

  def at(self, step: int | None = None, *, live: bool = False) -> TextToImage:
    """The same with the weights of another checkpoint; errors as of `load`."""
    with Checkpoints(self._folder, every=None) as checkpoints:
      step = checkpoints.latest() if step is None else step
      g = checkpoints.restore_sampler(self._spec, step, live=live)
    return dataclasses.replace(self, step=step, weights='live' if live else 'averaged',
                               tree=self.tree | g)

  def inputs(self, captions: Sequence[str], *, seed: int = 0,
             truncation: float | None = None) -> dict[str, np.ndarray]:
    """What `paint` takes for one image a caption; captions that are too long are cut."""
    tokens, mask = self.tokenizer.encode(captions)
    z = draw_noise(jax.random.key(seed), len(captions), self.z_features, truncation)
    return {'tokens': tokens, 'mask': mask, 'z': np.asarray(z)}

  def generate(self, captions: Sequence[str], *, seed: int = 0,
           truncation: float | None = None) -> np.ndarray:
    """One image a caption, float32 [n, h, w, 3] in [0, 1]."""
    tree = self.tree
    return self._sampler(tree['params'], tree['stats'], tree['frozen'],
                         **self.inputs(captions, seed=seed, truncation=truncation))
