"""`xmc sample`: pictures of one's own captions."""
from __future__ import annotations

import pathlib
import re
from collections.abc import Sequence

import jax
import ml_collections
import numpy as np

from xmc_jax import config as defaults
from xmc_jax import pictures, recipes
from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import bert
from xmc_jax.engine import mesh as meshes
from xmc_jax.engine.checkpoint import Checkpoints
from xmc_jax.engine.optim import make_optimizers
from xmc_jax.engine.program import Program
from xmc_jax.sampling import Sampler, draw_noise
from xmc_jax.types import UserError


def sample(workdir: str | pathlib.Path, captions: Sequence[str], *, each: int = 4, seed: int = 0,
           truncation: float | None = None, live: bool = False, step: int | None = None,
           out: str | pathlib.Path | None = None) -> np.ndarray:
  """Draws `each` pictures of every caption and writes them to `out`: a grid and single files.

  The checkpoint tells the config and the text encoder. Averaged weights unless `live`. Returns
  pictures float32 [captions, each, h, w, 3] in [0, 1]. UserError for captions that the encoder
  cannot read, and for a run without checkpoint.
  """
  workdir = pathlib.Path(workdir)
  out = pathlib.Path(out) if out else workdir / 'samples'
  if not captions:
    raise UserError('nothing to draw: give --caption "..." or --captions FILE')
  with Checkpoints(workdir / 'checkpoints', every=None) as checkpoints:
    step = checkpoints.latest() if step is None else step
    config = defaults.base()
    with config.unlocked():
      config.update(ml_collections.ConfigDict(checkpoints.meta(step)['config']))
    tokenizer = Tokenizer(bert.find(config.text.encoder), config.text.length)
    tokenizer.check_captions(captions, config.text.script)
    mesh = meshes.make_mesh()
    recipe = recipes.build(config)
    program = Program(recipe.objective, make_optimizers(config.optim), config.ema_decay,
                      recipe.frozen_spec, recipe.batch_spec, mesh)
    g = program.state_spec.players['g']
    g = checkpoints.restore_sampler({'params': g.params, 'stats': g.stats}, step, live=live)

  repeated = [caption for caption in captions for _ in range(each)]
  tokens, mask = tokenizer.encode(repeated)
  z = draw_noise(jax.random.key(seed), len(repeated), recipe.z_features, truncation)
  frozen = program.put_frozen(recipe.load_frozen())
  images = Sampler(recipe, mesh)(g['params'], g['stats'], frozen, tokens, mask, z)
  _write(out, images, repeated, each)
  weights = 'live' if live else 'averaged'
  print(f'{len(images)} pictures of {len(captions)} captions with the {weights} weights of step '
        f'{step:,}: {out / "grid.png"} and single files beside it')
  return images.reshape(len(captions), each, *images.shape[1:])


def _write(out: pathlib.Path, images: np.ndarray, captions: list[str], each: int) -> None:
  try:
    out.mkdir(parents=True, exist_ok=True)
    pictures.save_png(out / 'grid.png', pictures.grid(images, captions, columns=min(8, each)))
    for i, (image, caption) in enumerate(zip(images, captions)):
      name = re.sub(r'[^a-z0-9]+', '_', caption.lower()).strip('_')[:60]
      pictures.save_png(out / f'{i // each:03d}_{name}_{i % each}.png',
                        np.round(image * 255).astype(np.uint8))
  except OSError as error:
    raise UserError(f'--out: cannot write to {out} ({error.strerror or error})') from error
