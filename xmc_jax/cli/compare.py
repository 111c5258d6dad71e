"""`xmc evaluate --images DIR --reference DIR`: the distance of two folders of images."""
from __future__ import annotations

import os
from typing import Any

from xmc_jax.evals import feature_cache, image_sets, protocols, results, scores
from xmc_jax.evals.extract import Collector
from xmc_jax.training.mesh import make_mesh
from xmc_jax.types import UserError


def compare(images: str | None, against: str | None, *, protocol: str = 'tf2015',
            workdir: str | os.PathLike[str] | None = None,
            random_seed: int | None = None) -> list[dict[str, Any]]:
  """Scores the images of one folder against those of another by a protocol, and prints them.

  Images are taken as they lie in the files: RGB, all of one size a folder. With `workdir` the
  lines with their manifests are added to its scores.jsonl. UserError for folders that cannot be
  measured, before any number is printed.
  """
  if not (images and against):
    raise UserError('give two folders: --images, which is scored, and --reference, real images')
  chosen, mesh = protocols.find(protocol), make_mesh()
  fakes, reals = image_sets.Folder(images, '--images'), image_sets.Folder(against, '--reference')
  reader = chosen.reader(random_seed)
  known, real_pixels = feature_cache.features(reals, chosen, reader, mesh)
  found = scores.distances(Collector([reader], mesh)(fakes)[chosen.name], known, chosen)
  results.finite(found)
  lines = results.lines(found, {
      'step': None, 'weights': None, **chosen.facts(), 'weights_sha256': reader.sha256,
      'images': fakes.what, 'images_sha256': image_sets.fingerprint(fakes), 'reference': reals.what,
      'reference_sha256': real_pixels, 'fakes': len(fakes), 'reals': len(reals),
      'kid_subset': scores.kid_subset(len(fakes), len(reals)), 'splits': scores.SPLITS,
      'precision': 'float32', 'differs': chosen.differences(len(fakes), len(reals)),
      **results.environment()})
  print(f'{chosen.name}: {len(fakes):,} images of {fakes.what} against {len(reals):,} of '
        f'{reals.what}\n{results.table(lines)}')
  if workdir:
    results.append(workdir, lines)
  return lines
