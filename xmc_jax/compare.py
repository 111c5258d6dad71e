"""`xmc evaluate --images DIR --reference DIR`: the distance of two folders of pictures."""
from __future__ import annotations

import os
from typing import Any

from xmc_jax.engine.mesh import make_mesh
from xmc_jax.evals import protocols, record, reference, scores, sets
from xmc_jax.evals.collect import Collector
from xmc_jax.types import UserError


def compare(images: str | None, against: str | None, *, protocol: str = 'tf2015',
            workdir: str | os.PathLike[str] | None = None,
            random_seed: int | None = None) -> list[dict[str, Any]]:
  """Scores the pictures of one folder against those of another by a protocol, and prints them.

  Pictures are taken as they lie in the files: RGB, all of one size a folder. With `workdir` the
  lines with their manifests are added to its scores.jsonl. UserError for folders that cannot be
  measured, before any number is printed.
  """
  if not (images and against):
    raise UserError('give two folders: --images, which is scored, and --reference, real pictures')
  chosen, mesh = protocols.find(protocol), make_mesh()
  fakes, reals = sets.Folder(images, '--images'), sets.Folder(against, '--reference')
  reader = chosen.reader(random_seed)
  known, real_pixels = reference.features(reals, chosen, reader, mesh)
  found = scores.distances(Collector([reader], mesh)(fakes)[chosen.name], known, chosen)
  record.finite(found)
  lines = record.lines(found, {
      'step': None, 'weights': None, **chosen.facts(), 'weights_sha256': reader.sha256,
      'images': fakes.what, 'images_sha256': sets.fingerprint(fakes), 'reference': reals.what,
      'reference_sha256': real_pixels, 'fakes': len(fakes), 'reals': len(reals),
      'kid_subset': scores.kid_subset(len(fakes), len(reals)), 'splits': scores.SPLITS,
      'precision': 'float32', 'differs': chosen.differences(len(fakes), len(reals)),
      **record.environment()})
  print(f'{chosen.name}: {len(fakes):,} pictures of {fakes.what} against {len(reals):,} of '
        f'{reals.what}\n{record.table(lines)}')
  if workdir:
    record.append(workdir, lines)
  return lines
