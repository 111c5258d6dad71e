"""Finishes a preparation (vocabulary, list of bad images, manifest), and checks a finished one."""
from __future__ import annotations

import collections
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from xmc_jax import __version__
from xmc_jax.data import records, vocabulary
from xmc_jax.data.shards import Shard
from xmc_jax.prepare.captions import loses_words
from xmc_jax.prepare.estimate import some
from xmc_jax.prepare.job import TALLY, Job
from xmc_jax.types import UserError
from xmc_jax.utils import atomic
from xmc_jax.utils.hashing import file_sha256
from xmc_jax.utils.progress import Progress

BAD, TOKENIZER = 'bad.jsonl', 'tokenizer.json'
_CLASSES = 5        # number of most frequent classes in the manifest


def finish(job: Job, most_bad: float) -> dict[str, Any]:
  """Writes the files besides the shards, all of which must exist; returns the manifest.

  Raises:
    UserError: a split has no usable image, or the fraction of unusable ones exceeds `most_bad`.
  """
  counts, words = {}, {}
  bad = {}
  for split, number in job.shards.items():
    shards = [records.open_shard(job.path(split, i), job.info) for i in range(number)]
    bad[split] = [tuple(one) for shard in shards for one in shard.facts['bad']]
    counts[split] = _count(job, shards, words) | {'bad': len(bad[split])}
  atomic.save(job.folder / BAD, ''.join(
      json.dumps({'split': split, 'name': name, 'why': why}, ensure_ascii=False) + '\n'
      for split, those in bad.items() for name, why in those))
  for split, those in bad.items():
    check_bad(job, split, those, most_bad)
  vocabulary.write(job.folder / TOKENIZER, job.original.vocabulary or tuple(words))
  facts = {'counts': counts, 'left_out': dict(job.original.left_out),
           'settings': job.facts(), 'version_of_xmc_jax': __version__,
           'original_sha256': {name: file_sha256(path)
                               for name, path in sorted(job.original.files.items())},
           'files': {name: file_sha256(job.folder / name) for name in (BAD, TOKENIZER)}}
  records.finish(job.folder, job.info, job.shards, facts)
  # All shards are complete, so nobody writes these any more. Other files may be in use by a host.
  for left in job.folder.glob(f'.*.rec.*{atomic.UNFINISHED}'):
    left.unlink(missing_ok=True)
  return records.read_manifest(job.folder)


def check_bad(job: Job, split: str, bad: list[tuple[str, str]], most_bad: float) -> None:
  """Raises UserError if a split has more bad images than allowed, or only bad ones."""
  count = job.original.counts[split]
  if len(bad) > most_bad * count or 0 < count == len(bad):
    raise UserError(
        f'{len(bad):,} of the {count:,} images of {split} cannot be used, '
        f'{len(bad) / count:.2%}, and --most_bad allows {most_bad:.2%}: {some(bad)}; repair them '
        'and run the same command again, or allow more with --most_bad')


def _count(job: Job, shards: list[Shard], words: dict[str, None]) -> dict[str, Any]:
  """Returns the counts of a split; adds the words of its captions to `words`."""
  examples, captions, classes, lost = 0, 0, collections.Counter(), []
  for shard in shards:
    texts: list[str] = []
    for at in range(len(shard)):
      facts = shard.metadata(at)
      texts += facts['captions']
      classes.update(facts['labels'] or [None])
    examples, captions = examples + len(shard), captions + len(texts)
    lost += filter(loses_words, texts)
    if job.original.vocabulary is None:
      words |= dict.fromkeys(vocabulary.collect(texts))
  unlabelled = classes.pop(None, 0)
  most = {job.original.class_names[label]: n for label, n in classes.most_common(_CLASSES)}
  labels = {'most': most, 'classes_seen': len(classes), 'images_without': unlabelled}
  return {'examples': examples, 'captions': captions,
          **({'captions_in_other_scripts': len(lost), 'first_in_another_script': lost[0]}
             if lost else {}),
          **{what: sum(shard.facts[what] for shard in shards) for what in TALLY},
          **({'labels': labels} if job.original.class_names else {})}


def check(folder: pathlib.Path) -> dict[str, int]:
  """Hashes every file of a prepared folder; returns {"files": how many, "bytes": in all}.

  Raises:
    UserError: a file is missing or differs from the manifest, or the manifest has no hashes.
  """
  manifest, wrong, size = records.read_manifest(folder), [], 0
  try:
    expected = dict(_expected(manifest))
  except (KeyError, TypeError, AttributeError) as error:
    raise UserError(f'{folder / records.MANIFEST} has no hashes ({type(error).__name__}: {error}); '
                    'prepare the data set again') from error
  progress = Progress('files', len(expected))
  for number, (name, digits) in enumerate(expected.items()):
    path = folder / name
    if not path.is_file() or file_sha256(path) != digits:
      wrong.append(f'{name} is {"damaged" if path.is_file() else "missing"}')
    else:
      size += path.stat().st_size
    progress.reach(number + 1)
  if wrong:
    raise UserError(f'{folder}: {"; ".join(wrong[:5])}'
                    f'{f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""}; copy the folder '
                    'again, or delete these files with manifest.json and prepare it again')
  return {'files': len(expected), 'bytes': size}


def _expected(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
  yield from manifest['files'].items()
  for shards in manifest['splits'].values():
    for shard in shards:
      yield shard['file'], shard['sha256']
