"""`xmc export --page`: a folder of static files in which a browser runs a whole model.

  index.html, *.css, *.js        the page, hand-written, from `site/`
  model/page.json                what the page has to know of the model
  model/graph.onnx.gz            text encoder and generator
  model/tokenizer.json           of the captions
  model/check.bin                the image of a caption, with which the page checks itself
  runtime/                       ONNX Runtime and the tokenizer, see `runtime.py`
"""
from __future__ import annotations

import gzip
import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from xmc_jax import __version__
from xmc_jax.data import source as sources
from xmc_jax.page import graph, runtime
from xmc_jax.pretrained import folder
from xmc_jax.pretrained.model import Model
from xmc_jax.types import UserError
from xmc_jax.utils import atomic, image_io, user_code

SITE = pathlib.Path(__file__).with_name('site')
FACTS = 'model/page.json'
_TRY = 10                        # captions that the page offers
_CHECK = 'a red apple'
_PUBLIC = {*sources.NAMES} - {'records'}      # data sets


def write(name: str, model: Model, target: str | os.PathLike[str], *,
          captions: Sequence[str] = (), node_modules: str | os.PathLike[str] | None = None,
          webgpu: bool = False) -> dict[str, Any]:
  """Writes a page that draws what a model draws, in the visitor's browser.

  Args:
    name: of the model, for the title.
    model: from a model folder.
    target: the folder; a page that is there already is replaced.
    captions: to try; none: of the data set of the model's training, if it is here.
    node_modules: see `runtime.find`.
    webgpu: whether the page has what it takes to draw on a graphics card.
  Returns:
    The content of page.json.
  Raises:
    UserError: `target` holds something else or cannot be written to; a caption is not one of the
      model; the captions are read word by word; a package is missing or npm fails; or an operation
      of the network has no counterpart in ONNX.
  """
  check_target(target)
  target, generator = pathlib.Path(target).resolve(), model.generator
  tokenizer, config = generator.tokenizer, generator.config
  if tokenizer.kind == 'words':
    raise UserError('--page: the captions of this model are read word by word, and a page can only '
                    'do with a BERT or a CLIP; `xmc demo` draws with it in Python')
  tokenizer.check_captions(captions, config.text.script)
  files = {file: path for file, path in runtime.find(node_modules).items()
           if webgpu or not file.startswith('ort-gpu')}
  draw = graph.drawing(generator, str(model.path / folder.TEXT_ENCODER))
  offered = list(captions) or of_data(config, generator.tokenizer, own=False)
  checked = (offered or [_CHECK])[0]
  inputs = generator.inputs([checked])
  # As browsers compute: accelerators round the factors of products to fewer bits by default.
  with jax.default_matmul_precision('float32'):
    wanted = image_io.pixels(jax.jit(draw)(*(inputs[key] for key in graph.INPUTS)))
  onnx = graph.convert(draw, tokenizer.length, generator.z_features)
  graph.compact(onnx)
  weights = onnx.SerializeToString()
  text = json.loads(tokenizer.text())
  facts = {
      'name': name, 'xmc_jax': __version__, 'step': generator.step, 'weights': generator.weights,
      'size': wanted.shape[0], 'z': generator.z_features, 'data': config.data.name,
      'method': config.method, 'captions': offered, 'check': checked, 'sizes': {},
      'text': {'length': tokenizer.length, 'script': config.text.script, 'end': tokenizer.end,
               'unknown': tokenizer.unknown_id}}

  sizes = {'ort.wasm': 'wasm', 'ort-gpu.wasm': 'gpu'}      # names of the page.json
  try:
    with atomic.whole_folder(target) as partial:
      for path in SITE.iterdir():
        atomic.save(partial / path.name, path.read_bytes())
      facts['sizes']['graph'] = _compressed(partial / 'model/graph.onnx', weights)
      for file, path in files.items():
        if file in sizes:
          facts['sizes'][sizes[file]] = _compressed(partial / 'runtime' / file, path.read_bytes())
        else:
          atomic.save(partial / 'runtime' / file, path.read_bytes())
      tokens = json.dumps(text, ensure_ascii=False)
      atomic.save(partial / 'model/tokenizer.json', tokens)
      atomic.save(partial / 'model/check.bin', wanted.tobytes())
      # Goes into the addresses of these files and of ONNX Runtime's, so that none of them comes
      # from the cache of another page.
      version = hashlib.sha256(b''.join([weights, tokens.encode(), wanted.tobytes()]))
      version.update(repr(runtime.FILES).encode())
      facts['version'] = version.hexdigest()[:16]
      atomic.save(partial / FACTS, json.dumps(facts, ensure_ascii=False, indent=1) + '\n')
  except OSError as error:
    raise UserError(f'--page={target}: cannot be written to ({error.strerror or error}); give '
                    'another folder') from error
  return facts


def check_target(target: str | os.PathLike[str]) -> None:
  """UserError if a folder holds something else than a page, which `write` would replace."""
  own = {path.name for path in SITE.iterdir()} | {'model', 'runtime'}
  atomic.check_replaceable(pathlib.Path(target), own, FACTS, 'a page')


def _compressed(path: pathlib.Path, content: bytes) -> int:
  """Writes `path`.gz, for servers that do not compress, and returns the size in bytes."""
  packed = gzip.compress(content, 9, mtime=0)
  atomic.save(path.with_name(f'{path.name}.gz'), packed)
  return len(packed)


def of_data(config, tokenizer, *, own: bool) -> list[str]:
  """Captions to try of a config's data set, evenly spaced in its training split; [] without it.

  own: whether the config is of a run of this machine. One of a model may come from anyone, and may
  name only a public data set: no module to run, and no folder or set of the caller's to show.
  """
  name, options = config.data.name, config.data.options.to_dict()
  if not own:
    options.pop('folder', None)
  if user_code.is_foreign(name) or not own and name not in _PUBLIC:
    return []
  try:
    split = sources.load(name, 'train', config.model.size, **options)
  except (UserError, OSError):
    return []
  indices = np.linspace(0, len(split) - 1, 4 * _TRY).astype(int).tolist()
  found = dict.fromkeys(min(split.captions(i), key=len) for i in indices)
  unknown = set(tokenizer.unknown(list(found), config.text.script))
  return [caption for caption in found if caption not in unknown
          and not tokenizer.count_truncated([caption])][::4][:_TRY]
