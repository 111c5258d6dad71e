"""`xmc_jax.load`: a trained model by name, folder, run or repository, and images from it.

  model = xmc_jax.load('emoji64')
  model('a red apple', num_images=4, seed=3).images[0].save('apple.png')
"""
from __future__ import annotations

import dataclasses
import difflib
import functools
import os
import pathlib
import re
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from flax import traverse_util
from PIL import Image

from xmc_jax import methods
from xmc_jax.data.text import Tokenizer
from xmc_jax.prepare.captions import clean
from xmc_jax.pretrained import folder, hub
from xmc_jax.sampling import TextToImage, for_sampling
from xmc_jax.training.mesh import make_mesh, put_whole, replicated
from xmc_jax.types import Tree, UserError
from xmc_jax.utils import image_io, user_code

SHIPPED = pathlib.Path(__file__).parents[1] / 'models'      # models that come with the package
DEFAULT = 'emoji64'


@dataclasses.dataclass(frozen=True)
class Drawn:
  """Images of captions, those of one caption after the other.

  Attributes:
    arrays: uint8 [n, h, w, 3], RGB.
    captions: n strings.
    drawn: n strings, the captions that were drawn: those of `captions` or, with a model that knows
      the captions of its training, the nearest of these for one that is far from all of them.
  """
  arrays: np.ndarray
  captions: list[str]
  drawn: list[str]

  @property
  def images(self) -> list[Image.Image]:
    """The n images for Pillow."""
    return [Image.fromarray(array) for array in self.arrays]


@dataclasses.dataclass(frozen=True)
class Model:
  """A trained generator that is called with captions; create it with `load`.

  Attributes:
    path: the model folder or the run that it was loaded from.
    generator: of float images; its `inputs` and `forward` are for use inside a jitted function.
  """
  path: pathlib.Path
  generator: TextToImage

  def __call__(self, captions: str | Sequence[str], *, num_images: int = 1, seed: int = 0,
               truncation: float | None = None, best_of: int = 1, latent_steps: int = 0,
               nearest: float | None = None) -> Drawn:
    """Draws images of captions.

    Args:
      captions: one string or several.
      num_images: of each caption.
      seed: of the noise; the same captions and seed give the same images.
      truncation: threshold in standard deviations beyond which noise is drawn again: lower values
        give less variety; None: no limit.
      best_of: how many images are drawn for each that is returned; the discriminator chooses.
      latent_steps: gradients of the discriminator's score that then move the noise of each image.
      nearest: least cosine with the nearest caption of the training; a caption with a lower one is
        drawn as that. 0: every caption is drawn as it is; None: as `config.model.nearest` says.
    Raises:
      UserError: a caption is empty, too long or in another script, an argument is out of range, or
        the model has no discriminator to choose with.
    """
    captions = [captions] if isinstance(captions, str) else list(captions)
    if num_images < 1 or not captions:
      raise UserError(f'num_images={num_images} of {len(captions)} captions: give at least one of '
                      'both')
    captions = [clean(text) for text in captions]      # as those of the training and of xmc sample
    self.generator.tokenizer.check_captions(captions, self.generator.config.text.script)
    generator = self.generator if nearest is None else self.generator.with_nearest(nearest)
    repeated = [caption for caption in captions for _ in range(num_images)]
    images = generator.generate(repeated, seed=seed, truncation=truncation,
                                best_of=best_of, latent_steps=latent_steps)
    drawn = [caption for caption in generator.drawn_captions(captions) for _ in range(num_images)]
    return Drawn(image_io.pixels(images), repeated, drawn)

  def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None,
                  **options) -> str:
    """Uploads the model to a repository of the Hugging Face Hub; creates it if it is missing.

    Args:
      repo_id: 'org/name'.
      private: whether a new repository is private.
      token: of the Hub; None: the one that `hf auth login` has stored.
      options: those of `pretrained.export.export`, if this model was loaded from a run.
    Returns:
      The address of the commit.
    Raises:
      UserError: huggingface_hub is not installed, or the Hub refuses; or options are given for a
        model folder, which is uploaded as it is.
    """
    upload = functools.partial(hub.upload, repo_id, private=private, token=token)
    if folder.is_model(self.path):
      if options:
        raise UserError(f'push_to_hub({next(iter(options))}=...): {self.path} is a model folder, '
                        'which is uploaded as it is; load the run, or export it again with that')
      return upload(self.path)
    from xmc_jax.pretrained.export import export
    with tempfile.TemporaryDirectory() as temporary:
      target = pathlib.Path(temporary, repo_id.rpartition('/')[2])
      export(self.path, target, step=self.generator.step, **options)
      return upload(target)


def load(name: str | os.PathLike[str] = DEFAULT) -> Model:
  """Loads a trained model.

  Args:
    name: a model folder or the folder of a run; or the name of a model that comes with the package
      (`names()`); or 'org/name', a repository of the Hugging Face Hub, which is downloaded unless
      the cache has its newest version.
  Raises:
    UserError: there is no such model, or it is damaged.
  """
  path = find(name)
  return Model(path, from_folder(path) if folder.is_model(path) else TextToImage.load(path))


def names() -> list[str]:
  """The models that come with the package."""
  return sorted(path.name for path in SHIPPED.iterdir() if folder.is_model(path))


def find(name: str | os.PathLike[str]) -> pathlib.Path:
  """The folder of a model or a run; a folder of the user's goes before one of the package."""
  path, text = pathlib.Path(name).expanduser(), os.fspath(name)
  if folder.is_model(path) or (path / 'checkpoints').is_dir():
    return path
  if text in names():
    return SHIPPED / text
  if path.exists():
    folder.read_facts(path)      # says what is wrong with it
  if re.fullmatch(r'[\w.-]+/[\w.-]+', text) and not text.startswith('.'):
    return hub.download(text)
  close = difflib.get_close_matches(text, names(), 1)
  raise UserError(f'there is no model {text!r}' + (f'; did you mean {close[0]}?' if close else
                  f': give a model folder, the folder of a run, ORG/NAME of the Hugging Face Hub, '
                  f'or one of {", ".join(names())}'))


def from_folder(path: pathlib.Path) -> TextToImage:
  """The generator of a model folder; UserError if that is damaged or not one."""
  facts = folder.read_facts(path)
  _check_method(facts['config'], path)
  config = for_sampling(methods.complete(facts['config'], path / folder.CONFIG),
                        str(path / folder.TEXT_ENCODER))
  method, mesh = methods.build(config), make_mesh()
  program = methods.program(method, config, mesh)
  spec = program.state_spec.networks['g']
  tensors, known_captions = folder.read_tensors(path), f'{folder.FROZEN}{folder.KNOWN}/'
  g = {part: _tree(tensors, part, getattr(spec, part), path) for part in ('params', 'stats')}
  frozen = program.put_frozen(method.load_frozen(method.sample_needs))
  tokenizer = Tokenizer(path / folder.TOKENIZER, config.text.length)
  known = traverse_util.unflatten_dict({
      name.removeprefix(known_captions): tensors.pop(name)
      for name in list(tensors) if name.startswith(known_captions)}, sep='/')
  if method.known_captions and not known:
    raise UserError(f'{path / folder.WEIGHTS} lacks the captions of training that model.nearest '
                    'looks among; export the run again')
  model = TextToImage.of_training(config, method, program, tokenizer, frozen, None, known)
  model = model.of_weights(facts['step'], facts['weights'], put_whole(g, replicated(mesh)))
  if not any(name.startswith(folder.FROZEN) for name in tensors):
    return model
  spec = program.state_spec.networks['d']
  d = {part: _tree(tensors, f'{folder.NETWORKS}d/{part}', getattr(spec, part), path)
       for part in ('params', 'stats')}
  frozen = {name: _tree(tensors, f'{folder.FROZEN}{name}', method.frozen_spec[name], path)
            for name in method.match_needs}
  return model.of_networks(put_whole(d, replicated(mesh)), program.put_frozen(frozen))


def _check_method(config: dict[str, Any], path: pathlib.Path) -> None:
  """UserError for a method outside the package that the caller has not imported."""
  for key in ('method', 'base'):
    name = config.get(key)
    if isinstance(name, str) and user_code.is_foreign(name):
      raise UserError(f'{path / folder.CONFIG}: the method of this model is the module {name}, '
                      f'which is no part of xmc_jax; `import {name}` first, if you trust it')


def _tree(tensors: dict[str, np.ndarray], part: str, spec: Tree, path: pathlib.Path) -> Tree:
  """The tensors below `part` as a tree, checked against `spec`, of which it may lack branches.

  Those are what only the training uses.
  """
  found = {name.removeprefix(f'{part}/'): x for name, x in tensors.items()
           if name.startswith(f'{part}/')}
  wanted = traverse_util.flatten_dict(spec, sep='/')
  branches = {name.partition('/')[0] for name in found}
  wanted = {k: x for k, x in wanted.items() if k.partition('/')[0] in branches}
  if {k: x.shape for k, x in found.items()} != {k: x.shape for k, x in wanted.items()}:
    raise UserError(f'the weights in {path / folder.WEIGHTS} are not those of the networks of its '
                    'config in this version of xmc_jax; export the run again')
  return traverse_util.unflatten_dict(
      {name: x.astype(wanted[name].dtype) for name, x in found.items()}, sep='/')
