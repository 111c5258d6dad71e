"""Methods: a file per paper, with its defaults, losses and step order.

Modules whose names start with `_` hold what several methods share.
"""
from __future__ import annotations

import dataclasses
import hashlib
import importlib
import os
import pathlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import jax
import ml_collections
import numpy as np
from etils import epath

from xmc_jax import config as base_config
from xmc_jax.config import check_kinds, flat
from xmc_jax.data.layouts import most_objects
from xmc_jax.data.text import Tokenizer
from xmc_jax.training.objective import Objective
from xmc_jax.training.optim import check_keys, make_optimizers
from xmc_jax.training.program import Program
from xmc_jax.types import Array, Batch, Tree, UserError
from xmc_jax.utils import user_code

if TYPE_CHECKING:      # it imports Pillow, which building a method does not need
  from xmc_jax.data.source import Source


@dataclasses.dataclass(frozen=True)
class Method:
  """What training, sampling and evaluation need to know about a method.

  sample: (params, stats, frozen, batch, z) -> images [b, h, w, 3] in [0, 1], by the generator "g";
    `batch` holds tokens and mask. None for a method that generates no images.
  z_features: of the noise z [b, z_features].
  frozen: functions that read the weights that are not trained, by name.
  frozen_spec: the shapes of these weights, known without the files.
  batch_spec: shapes and dtypes of one step's batch, leaves [r, b, ...].
  tokenizer: reads the tokenizer of the captions.
  sample_needs: names of the frozen weights that `sample` uses.
  match: (params, stats, frozen, batch, images [b, h, w, 3] in [0, 1]) -> float32 [b], by the
    discriminator "d": how well each image shows its caption, to choose among several of one
    caption. None for a method that does not say.
  match_needs: names of further frozen weights that `match` uses.
  known_captions: (tokenizer, variables of the text encoder) -> captions of training, with which
    `sample` replaces others, as frozen["known_captions"]; None if it replaces none.
  replaced: (frozen, batch) -> tokens and mask of the captions that `sample` draws for those of the
    batch; None if it draws these.
  microbatches: whether a step can run in the parts of `config.microbatches`.
  export: (run folder, {network: params}, tokenizer) -> None; writes what other runs read from this
    one. Called by one process whenever a checkpoint is saved.
  frozen_settings: what decides beside the weights what a frozen network computes, as a file next to
    them says it: {name: {setting: JSON}}.
  """
  objective: Objective
  sample: Callable[..., Array] | None
  z_features: int
  frozen: dict[str, Callable[[], Tree]]
  frozen_spec: dict[str, Tree]
  batch_spec: dict[str, Tree]
  tokenizer: Callable[[], Tokenizer]
  sample_needs: tuple[str, ...] = ('text',)
  match: Callable[..., Array] | None = None
  match_needs: tuple[str, ...] = ()
  known_captions: Callable[[Tokenizer, Tree], Tree] | None = None
  replaced: Callable[[Tree, Batch], Batch] | None = None
  microbatches: bool = False
  export: Callable[[epath.Path, dict[str, Tree], Tokenizer], None] | None = None
  frozen_settings: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

  def load_frozen(self, names: Iterable[str] | None = None) -> dict[str, Tree]:
    """Reads the weights that are not trained, `{name: variables}`: those in `names`, or all."""
    return {name: self.frozen[name]() for name in (self.frozen if names is None else names)}


def build(config: ml_collections.ConfigDict) -> Method:
  """The method that `config.method` names: a module with a `build(config)`.

  A module of this package; or one of the user's, by its import path, which has a dot.
  """
  return find(config, 'method').build(config)


def find(config: ml_collections.ConfigDict, key: str) -> ModuleType:
  """The module that `config[key]` names.

  UserError if there is none, or the config lacks one of its keys or has a value of another type.
  """
  name, flag = config[key], f'--config.{key}={config[key]}'
  module = _module(name, flag)
  defaults, values = _own_defaults(module), flat(config)
  # Of an optimizer, other keys may be left out.
  missing = [x for x in defaults if x not in values
             and (not x.startswith('optim.') or x.endswith(('.lr', '.b1', '.b2')))]
  if missing:
    raise UserError(f'{flag}: this config is not one of {name}, as it has no key {missing[0]}; '
                    f'begin with a config of {name}')
  check_kinds(values, defaults)
  return module


def _module(name: str, flag: str) -> ModuleType:
  """The module of a method's name or import path; UserError if there is none."""
  if name in names():
    return importlib.import_module(f'{__name__}.{name}')
  known = (f'choose one of {", ".join(names())}, or give the import path, with a dot, of a module '
           'that has build(config)')
  if not isinstance(name, str) or '.' not in name:
    raise UserError(f'{flag}: unknown method; {known}')
  module = user_code.import_module(name, flag, known)
  if not hasattr(module, 'build'):
    raise UserError(f'{flag}: the module has no function build(config); {known}')
  return module


def names() -> list[str]:
  """The methods of this package."""
  found = (m.name for m in pkgutil.iter_modules(__path__))
  return sorted(name for name in found if not name.startswith('_'))


def _own_defaults(module: ModuleType) -> dict[str, Any]:
  """The flat defaults of a method; an extension has the keys of what it extends.

  A method may leave its defaults to config files: then there are none.
  """
  own = hasattr(module, 'config') and not hasattr(module, 'extend')
  return flat(module.config()) if own else {}


def _defaults_of(config: Mapping[str, Any], where: str) -> dict[str, Any]:
  """The flat defaults of the method of a config; {} if it leaves them to config files."""
  key = 'base' if 'base' in config else 'method'      # an extension names what it extends
  return _own_defaults(_module(config[key], f'{where}--config.{key}={config[key]}'))


def nullable(config: ml_collections.ConfigDict) -> set[str]:
  """The keys that may be None: those whose default is."""
  found = flat(base_config.base()) | _defaults_of(config, '')
  return {key for key, value in found.items() if value is None}


def complete(saved: Mapping[str, Any], where: str | os.PathLike[str]) -> ml_collections.ConfigDict:
  """A saved config, with the defaults of keys that are newer than it.

  So the default of a new key has to be what was done before there was the key.

  Args:
    where: the file or folder that it was saved in, for messages.
  Raises:
    UserError: it is no config, or a value is of another type than its default.
  """
  config = base_config.complete(saved, where)
  own = _defaults_of(config, f'{where}: ')
  with config.unlocked():
    if own and 'image' not in saved and not any(key.startswith('image.') for key in own):
      del config['image']        # the method has no image network of a config
    for key, value in own.items():
      section, _, last = key.rpartition('.')
      # Of an optimizer any key may be left out; a section without keys is damaged, not old.
      if (section in ('model', 'text', 'terms') and saved.get(section)
          and last not in config[section]):
        config[section][last] = value
  return config


def with_absolute_paths(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """A copy that finds the models that it names from every working folder."""
  config, encoder = config.copy_and_resolve_references(), config.text.get('encoder')
  with config.unlocked():
    if config.init and (path := pathlib.Path(config.init).expanduser()).exists():
      config.init = str(path.absolute())
    if matcher := config.model.get('matcher'):
      config.model.matcher = str(pathlib.Path(matcher).expanduser().absolute())
    if encoder and (folder := pathlib.Path(encoder).expanduser()).is_dir():    # else it is a name
      config.text.encoder = str(folder.absolute())
  return config


def frozen_facts(method: Method, tokenizer: Tokenizer) -> dict[str, Any]:
  """What beside the frozen weights has to be the same on all processes, by names for people."""
  return {'the sha256 of the tokenizer': hashlib.sha256(tokenizer.text().encode()).hexdigest(),
          **{f'{key} of the frozen network {name}': value
             for name, facts in method.frozen_settings.items() for key, value in facts.items()}}


def check_training(method: Method, config: ml_collections.ConfigDict) -> None:
  """UserError for settings that training would ignore; a run that has ended may have them."""
  check_keys(config.optim)
  if config.data.partners and not any(key.startswith('partner_') for key in method.batch_spec):
    raise UserError(f'--config.data.partners={config.data.partners}: {config.method} alone does '
                    'not use partners; extend it, as --config configs/scl.py:NAME does')
  if config.microbatches > 1 and not method.microbatches:
    raise UserError(f'--config.microbatches={config.microbatches}: {config.method} does not split '
                    'batches; set it to 1')


def check_labels(method: Method, config: ml_collections.ConfigDict, source: Source) -> None:
  """UserError unless the images of `source` have the labels that the losses compare, if any do."""
  if 'label' not in method.batch_spec or not len(source):
    return
  model, n, shape = config.model, len(source.class_names), np.shape(source.label(0))
  masks = [name for name, on in config.terms.items() if on is True]
  if n == 1 and masks:
    raise UserError(
        f'--config.data.name={config.data.name}: all images have one class, and these losses leave '
        'examples of the same class out of the negatives, so they would compare nothing; set '
        f'{" ".join(f"--noconfig.terms.{name}" for name in masks)}')
  rule = config.data.partners
  if n == 1 and rule not in ('', 'self'):
    raise UserError(
        f'--config.data.name={config.data.name}: all images have one class, so with '
        f'--config.data.partners={rule} every example would be a positive of every other; set '
        '--config.data.partners=self')
  too_few = config.terms.get('labels') and n > (model.classes or 0)     # rows of the classifier
  if shape == method.batch_spec['label'].shape[2:] and not too_few:
    return
  if n:
    one = '--config.model.one_class' if shape == () else '--noconfig.model.one_class'
    raise UserError(
        f'--config.data.name={config.data.name}: the losses use labels, of which the config says '
        f'one_class={model.one_class} and classes={model.classes}, and each image of the data has '
        f'{"one" if shape == () else "any number"} of {n:,} classes; set {one} '
        f'--config.model.classes={n}')
  off = [f'--noconfig.terms.{name}' for name in masks]
  raise UserError(
      f'--config.data.name={config.data.name}: the images have no labels, and the losses use them; '
      + (f'set {" ".join(off)}, or ' if off else '') + 'prepare the data with labels')


def check_objects(method: Method, config: ml_collections.ConfigDict, source: Source) -> None:
  """UserError unless `source` has the layouts that the method learns from, if it does."""
  if 'objects' not in method.batch_spec:
    return
  name, rows, kinds = config.data.name, most_objects(source), len(source.class_names)
  if not rows:
    raise UserError(f'--config.data.name={name}: the images have no boxes of objects, and the '
                    'method learns layouts from them; set --config.model.objects=0')
  if (rows, kinds) != (config.model.objects, config.model.classes):
    raise UserError(f'--config.data.name={name}: the layouts have {rows} objects of {kinds:,} '
                    f'kinds; set --config.model.objects={rows} --config.model.classes={kinds}')


def program(method: Method, config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> Program:
  """The training program of `method`, built from `config`, over the devices of `mesh`."""
  return Program(method.objective, make_optimizers(config.optim), config.ema_decay,
                 method.frozen_spec, method.batch_spec, mesh, config.shard)
