"""Writes a model folder from a run: see `folder.py` for what is in it."""
from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import traverse_util

from xmc_jax import __version__, methods
from xmc_jax.encoders import registry
from xmc_jax.evals import results
from xmc_jax.pretrained import card, folder, text_encoder
from xmc_jax.sampling import TextToImage, find_text_encoder, for_sampling
from xmc_jax.training.checkpoint import Checkpoints
from xmc_jax.types import Tree, UserError
from xmc_jax.utils import atomic
from xmc_jax.weight_files import files, int8

STATS = 'float32'      # running statistics are few, and may be too large for half precision


def export(workdir: str | os.PathLike[str], target: str | os.PathLike[str], *,
           step: int | None = None, dtype: str = 'float32', text: str = 'float32',
           cut: bool = False, full: bool = False, license: str | None = None,
           encoder: str | os.PathLike[str] | None = None,
           data: str | os.PathLike[str] | None = None, draws_only: bool = False,
           matcher: str | os.PathLike[str] | None = None) -> dict[str, Any]:
  """Writes the averaged generator of a run and its text encoder to a folder that needs no other.

  The discriminator goes along if it can choose among images of a caption (`Method.match`).

  Args:
    workdir: folder of the run.
    target: the folder; a model that is there already is replaced.
    step: the checkpoint; None: the newest.
    dtype: of the generator's weights in the file, one of `int8.DTYPES`.
    text: of the text encoder's.
    cut: keep only the word pieces that `vocabulary.kept` names.
    full: also write the weights of all networks at that step, under `networks/`.
    license: of the model, for its card: an identifier that Hugging Face knows, such as apache-2.0.
    encoder: folder of the text encoder, if it is not where the run's config says.
    data: folder of the prepared data, if it is not where the run's config says; for `cut`.
    draws_only: leave out the discriminator, with which `best_of` chooses.
    matcher: weights of a matching network, which goes along and chooses with it.
  Returns:
    The content of config.json.
  Raises:
    UserError: `TextToImage.load` fails; `target` holds something else or cannot be written to; or
      the text encoder cannot be cut.
  """
  workdir = epath.Path(workdir).expanduser()
  # What a link leads to is replaced, not the link.
  target = pathlib.Path(target).expanduser().resolve()
  folder.check_replaceable(target)
  model = TextToImage.load(workdir, step=step, text_encoder=encoder, matcher=matcher)
  config, source = model.config, find_text_encoder(model.config.text.encoder, encoder)
  numbers = text_encoder.pieces_of_data(config, model.tokenizer, data) if cut else None
  tensors = (int8.pack(flat('params', _used(model)), dtype, -1)
             | int8.pack(flat('stats', model.tree['stats']), STATS, -1))
  choosing = _choosing(model, dtype) if model.method.match and not draws_only else {}
  tensors |= choosing
  if full:
    whole = networks(workdir, model, source)
    statistics = {name: x for name, x in whole.items() if '/stats/' in name}
    weights = {name: x for name, x in whole.items() if name not in statistics}
    tensors |= int8.pack(weights, dtype, -1) | int8.pack(statistics, STATS, -1)

  if model.method.known_captions:
    tensors |= _known_captions(model, dtype, numbers)

  with atomic.whole_folder(target) as partial:
    tokenizer = text_encoder.export(source, partial / folder.TEXT_ENCODER, model.tokenizer, text,
                                    numbers)
    facts = {
        'xmc_jax': __version__, 'step': model.step, 'weights': model.weights, 'dtype': dtype,
        'best_of': bool(choosing),
        'text_encoder': {
            'name': pathlib.Path(config.text.encoder).name, 'dtype': text,
            'pieces': len(numbers) if cut else model.tokenizer.size,
            'pieces_of_original': model.tokenizer.size,
            'sha256_of_original': {name: files.fingerprint(jax.device_get(tree))
                                   for name, tree in model.tree['frozen'].items()
                                   if name != folder.KNOWN}},
        'config': _portable(config)}
    generator = model.fingerprint()
    scores = [line for line in results.read(workdir)
              if (line.get('step'), line.get('weights')) == (model.step, model.weights)
              and line.get('generator_sha256') in (None, generator)
              and line.get('weights_sha256') != registry.RANDOM and card.can_show(line)]
    folder.write(partial, facts, tensors, tokenizer,
                 card.render(target.name, facts, scores, license))
  return facts


def _choosing(model: TextToImage, dtype: str) -> dict[str, np.ndarray]:
  """The discriminator and the frozen networks with which it chooses among images."""
  try:
    model = model.with_discriminator()
  except UserError as error:
    print(f'exported without what --best_of needs: {error}')
    return {}
  tensors = {}
  for part, bits in (('params', dtype), ('stats', STATS)):
    tensors |= int8.pack(flat(f'{folder.NETWORKS}d/{part}', model.tree['d'][part]), bits, -1)
  for name in model.method.match_needs:
    tensors |= int8.pack(flat(f'{folder.FROZEN}{name}', model.tree['frozen'][name]), dtype, -1)
  return tensors


def _known_captions(model: TextToImage, dtype: str, numbers: Sequence[int] | None
                    ) -> dict[str, np.ndarray]:
  """The captions of training with which the generator replaces others.

  numbers: of the word pieces that stay, in the order of their new numbers; None: all.
  """
  known = {name: x for name, x in model.tree['frozen'][folder.KNOWN].items() if name != 'least'}
  known = flat(folder.FROZEN + folder.KNOWN, known)
  name = f'{folder.FROZEN}{folder.KNOWN}/tokens'
  if numbers is not None:
    known[name] = np.searchsorted(numbers, known[name]).astype(np.int32)
  return int8.pack(known, dtype, -1)


def _portable(config) -> dict[str, Any]:
  """The config for JSON; of paths on this machine, which nobody else has, only the last name."""
  settings = json.loads(config.to_json_best_effort())
  settings['text']['encoder'] = folder.TEXT_ENCODER
  return jax.tree.map(_without_folders, settings)


def _without_folders(value: Any) -> Any:
  own = isinstance(value, str) and pathlib.Path(value).expanduser().is_absolute()
  return pathlib.Path(value).name if own else value


def flat(prefix: str, tree: Tree) -> dict[str, np.ndarray]:
  """The leaves of a tree by the names that they have in a file, {'PREFIX/a/b': array}."""
  leaves = traverse_util.flatten_dict(jax.device_get(tree), sep='/')
  return {f'{prefix}/{name}': np.asarray(x) for name, x in leaves.items()}


def _used(model: TextToImage) -> Tree:
  """The generator's parameters without those that sampling does not read."""
  inputs = model.inputs(['a'])
  jaxpr = jax.make_jaxpr(model.forward)(model.tree, inputs).jaxpr
  read = {id(variable) for equation in jaxpr.eqns for variable in equation.invars}
  used = jax.tree.unflatten(jax.tree.structure((model.tree, inputs)),
                            [id(variable) in read for variable in jaxpr.invars])[0]['params']
  flat, used = (traverse_util.flatten_dict(tree) for tree in (model.tree['params'], used))
  return traverse_util.unflatten_dict({path: x for path, x in flat.items() if used[path]})


def networks(workdir: str | os.PathLike[str], model: TextToImage, encoder: str
              ) -> dict[str, np.ndarray]:
  """The parameters and statistics of all networks as they were at the step of the training."""
  method = methods.build(for_sampling(model.config, encoder))
  spec = methods.program(method, model.config, model.mesh).state_spec
  with Checkpoints(pathlib.Path(workdir) / 'checkpoints', every=None) as checkpoints:
    found = checkpoints.restore(spec, model.step).networks
  return {name: x for key, network in found.items() for part in ('params', 'stats')
          for name, x in flat(f'{folder.NETWORKS}{key}/{part}', getattr(network, part)).items()}
