"""`xmc evaluate`: does a run draw what captions of pictures that it never saw say?"""
from __future__ import annotations

import json
import os
import time

import jax
import numpy as np
from etils import epath

from xmc_jax import __version__
from xmc_jax.data import source as sources
from xmc_jax.encoders import judge
from xmc_jax.evals import alignment
from xmc_jax.sampling import Artist
from xmc_jax.types import UserError


def evaluate(workdir: str | os.PathLike[str], *, rows: int = 1000, seed: int = 0,
             live: bool = False, step: int | None = None) -> dict:
  """Scores one checkpoint by the judge of its data set; appends to workdir/scores.jsonl.

  `rows` held-out captions are drawn once each; where the split has fewer examples, their other
  captions and then other noise fill up. Keys: `alignment_16`, the share whose picture the judge
  finds nearest to its own caption among 16 (chance is 0.0625); `alignment_16_real`, the same of the
  real held-out pictures, as a ceiling. UserError for a data set without a judge.
  """
  artist = Artist.load(workdir, step=step, live=live)
  name = artist.config.data.name
  if name not in judge.NAMES:
    raise UserError(f'there is no judge for the data set {name!r}, only for '
                    f'{", ".join(judge.NAMES)}')
  heldout = sources.load(name, 'heldout', artist.config.model.size, **artist.config.data.options)
  index = np.arange(rows) % len(heldout)
  turn = np.arange(rows) // len(heldout)
  captions = [heldout.captions(i)[t % len(heldout.captions(i))]
              for i, t in zip(index.tolist(), turn.tolist())]
  fakes = artist.draw(captions, seed=seed)
  reals = np.stack([heldout.image(i) for i in index.tolist()]).astype(np.float32) / 255
  score = {'step': artist.step, 'weights': artist.weights, 'data': f'{name}/heldout', 'rows': rows,
           'seed': seed, 'version': __version__, 'time': time.time()}
  for key, images in (('alignment_16', fakes), ('alignment_16_real', reals)):
    score[key] = alignment.alignment(images, captions, name, among=16, seed=seed)
  if jax.process_index() == 0:
    with (epath.Path(workdir) / 'scores.jsonl').open('a') as file:
      file.write(json.dumps(score) + '\n')
  print(f'step {artist.step:,}: {score["alignment_16"]:.1%} of {rows} held-out captions get a '
        f'picture nearest to their own caption among 16, by the {name} judge '
        f'(real pictures {score["alignment_16_real"]:.1%}, chance 6.2%)')
  return score
