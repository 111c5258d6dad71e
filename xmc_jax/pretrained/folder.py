"""A model folder on disk: a trained generator with its text encoder, and no other file needed.

  config.json         what it is: the config of its run, step, fingerprints
  model.safetensors   the averaged generator, and a discriminator that can choose among images
  tokenizer.json      of the captions, for `tokenizers.Tokenizer.from_file`
  text_encoder/       the text encoder in Hugging Face's layout
  README.md           the model card
  SHA256SUMS          of all but the card, as `sha256sum -c SHA256SUMS` reads it
"""
from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import numpy as safetensors_numpy

from xmc_jax.types import UserError
from xmc_jax.utils import atomic
from xmc_jax.utils.hashing import file_sha256
from xmc_jax.weight_files import files

CONFIG, WEIGHTS, TOKENIZER, CARD, SUMS = (
    'config.json', 'model.safetensors', 'tokenizer.json', 'README.md', 'SHA256SUMS')
TEXT_ENCODER = 'text_encoder'
NETWORKS, FROZEN = 'networks/', 'frozen/'      # prefixes in model.safetensors
KNOWN = 'known_captions'      # below FROZEN, see `Method.known_captions`
LIBRARY = 'xmc_jax'      # `model_type` of config.json, and the card's `library_name`
_FORMAT = 1              # changes when older versions of the package cannot read the folder
_GET_ANOTHER = 'export it again, or get another copy'


def is_model(folder: pathlib.Path) -> bool:
  """Whether a folder looks like one that `write` has written; it may be damaged."""
  return (folder / SUMS).is_file()


def check_replaceable(folder: pathlib.Path) -> None:
  """UserError unless a folder can be replaced: it is missing, empty or holds a model alone."""
  atomic.check_replaceable(folder, {CONFIG, WEIGHTS, TOKENIZER, CARD, SUMS, TEXT_ENCODER}, SUMS,
                           'a folder of a model')


def write(folder: pathlib.Path, facts: Mapping[str, Any], tensors: Mapping[str, np.ndarray],
          tokenizer: str, card: str) -> None:
  """Writes a model folder around the text encoder that it has already, the checksums last.

  Raises:
    UserError: the folder cannot be written to.
  """
  header = {'model_type': LIBRARY, 'format': _FORMAT}
  weights = safetensors_numpy.save({k: np.ascontiguousarray(x) for k, x in tensors.items()})
  try:
    for name, content in ((CONFIG, json.dumps(header | dict(facts), indent=2) + '\n'),
                          (WEIGHTS, weights), (TOKENIZER, tokenizer), (CARD, card)):
      atomic.save(folder / name, content)
    names = [CONFIG, WEIGHTS, TOKENIZER, *sorted(
        path.relative_to(folder).as_posix() for path in (folder / TEXT_ENCODER).iterdir())]
    atomic.save(folder / SUMS, ''.join(f'{file_sha256(folder / name)}  {name}\n'
                                       for name in names))
  except OSError as error:
    raise UserError(f'{folder}: cannot be written to ({error.strerror or error}); give another '
                    'folder') from error


def read_facts(folder: pathlib.Path) -> dict[str, Any]:
  """The content of config.json, after a check of every file.

  Raises:
    UserError: this is no model folder, a newer version of the package has written it, or a file is
      missing or damaged.
  """
  if not is_model(folder):
    raise UserError(f'{folder} is not a folder of a model: it has no {SUMS}; give one that '
                    '`xmc export` has written, or the folder of a run')
  try:
    sums = [line.split(maxsplit=1) for line in (folder / SUMS).read_text().splitlines()]
    wrong = next((name for digits, name in sums if file_sha256(folder / name) != digits), None)
    if wrong or {CONFIG, WEIGHTS, TOKENIZER} - {name for _, name in sums}:
      raise UserError(f'{folder / (wrong or SUMS)} is damaged: its content is not what {SUMS} '
                      f'says; {_GET_ANOTHER}')
    facts = json.loads((folder / CONFIG).read_text(encoding='utf-8'))
    kind, version = facts.get('model_type'), facts.get('format')
  except (OSError, ValueError, AttributeError) as error:
    raise UserError(f'the model in {folder} cannot be read ({error}); {_GET_ANOTHER}') from error
  if kind != LIBRARY:
    raise UserError(f'{folder / CONFIG} describes a model of another library: model_type is '
                    f'{kind!r}, not {LIBRARY!r}; give a folder that `xmc export` has written')
  if version != _FORMAT:
    raise UserError(f'{folder} has the format {version} of another version of {LIBRARY} '
                    f'({facts.get("xmc_jax")}), and this one reads {_FORMAT}; install that version')
  return facts


def read_tensors(folder: pathlib.Path) -> dict[str, np.ndarray]:
  """The tensors of model.safetensors; those of eight bits as float32. UserError as of `files`."""
  return files.read_safetensors(folder / WEIGHTS)
