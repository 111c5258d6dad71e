"""What a preparation makes: its shards, one at a time, in whatever process."""
from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from xmc_jax.data import records
from xmc_jax.data.shards import Shard
from xmc_jax.prepare.images import Storage, Stored, store
from xmc_jax.prepare.original import BadImage, Original, Raw

TALLY = ('enlarged', 'cut', 'kept')     # of `Stored`; counted in every shard


@dataclasses.dataclass(frozen=True)
class Job:
  """A data set, how its images are stored, and where. Can be pickled.

  Shard i of a split holds the examples i * shard_examples up to (i + 1) * shard_examples - 1 of the
  original, without those that cannot be used; it depends on nothing else.

  settings  what else decides the contents, ready for JSON: the options of the data set
  """
  original: Original
  folder: pathlib.Path
  storage: Storage
  shard_examples: int
  settings: dict[str, Any]

  @property
  def about(self) -> records.About:
    original = self.original
    return records.About(original.name, self.storage.size, tuple(original.class_names),
                         original.several_labels)

  @property
  def shards(self) -> dict[str, int]:
    """{split: number of its shards}."""
    return {split: math.ceil(count / self.shard_examples)
            for split, count in self.original.counts.items()}

  def path(self, split: str, number: int) -> pathlib.Path:
    return records.shard_path(self.folder, split, number)

  def facts(self) -> dict[str, Any]:
    """What all shards of one preparation have in common, as JSON gives it back."""
    files = {name: pathlib.Path(path).stat().st_size
             for name, path in sorted(self.original.files.items())}
    return {'storage': dataclasses.asdict(self.storage), 'shard_examples': self.shard_examples,
            'options': self.settings, 'counts': dict(self.original.counts), 'files': files}

  def write(self, split: str, number: int, tick: Callable[[], None]) -> dict[str, Any]:
    """Makes a shard anew; `tick` is called after every example. Returns its facts.

    Raises:
      UserError: as the reader says.
    """
    path = self.path(split, number)
    path.unlink(missing_ok=True)
    facts = {'settings': self.facts(), 'bad': [], **dict.fromkeys(TALLY, 0)}
    start = number * self.shard_examples
    stop = min(start + self.shard_examples, self.original.counts[split])
    some = self._records(self.original.examples(split, start, stop), facts, tick)
    records.write_shard(self.folder, self.about, split, number, some, facts)
    return facts

  def _records(self, raws: Iterator[Raw], facts: dict[str, Any],
               tick: Callable[[], None]) -> Iterator[records.Record]:
    for raw in raws:
      try:
        stored = store_raw(raw, self.storage)
      except BadImage as error:
        facts['bad'].append([raw.name, str(error)])
      else:
        for what in TALLY:
          facts[what] += getattr(stored, what)
        yield _record(raw, stored)
      tick()


def store_raw(raw: Raw, storage: Storage) -> Stored:
  """The stored image of an example. BadImage if there is none, or no caption."""
  if not any(caption.strip() for caption in raw.captions):
    raw.image()              # which may know a better reason
    raise BadImage('it has no caption')
  try:
    data = raw.image()
  except OSError as error:
    raise BadImage(error.strerror or str(error)) from error
  return store(data, storage, raw.box)


def _record(raw: Raw, stored: Stored) -> records.Record:
  captions = tuple(caption.strip() for caption in raw.captions if caption.strip())
  return records.Record(stored.data, captions, tuple(raw.labels), raw.flippable,
                        {**raw.more, 'name': raw.name}, tuple(raw.areas))


def shard_facts(path: pathlib.Path) -> dict[str, Any]:
  """What a shard that `Job.write` made says of itself. UserError if it is damaged."""
  return Shard(path).facts
