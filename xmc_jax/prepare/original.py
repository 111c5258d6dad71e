"""What a reader of original files hands to the preparation.

A reader is one module of this room. It knows one layout of files as it was published, and nothing
of shards, sizes and codecs:

  open(source: pathlib.Path, **options) -> Original

reads lists and annotations, not images, and raises a UserError that names the file that is
missing or wrong and says where it is published. `options` are the data set's own.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol


class BadImage(Exception):
  """Why one example cannot be used; the preparation counts it, lists it and goes on."""


@dataclasses.dataclass(frozen=True)
class Raw:
  """One example as its original files have it.

  name       of the image, unique in its split: for messages and for the list of bad ones
  image    returns the bytes of its file, of any kind that Pillow reads; may raise `BadImage` or
             OSError, and is called by the process that encodes the image
  captions   one or more, as they stand in the file but for white space around them
  labels     numbers of its classes, each once, ascending
  areas      of each label in (0, 1]: the share of the image that it covers, where that is known;
             otherwise empty
  box        of the object, x, y, width, height in pixels, where a square around it is wanted
  flippable  whether the captions stay true of the mirror image
  more       further facts (boxes of several objects, identity of the original), ready for JSON
  """
  name: str
  image: Callable[[], bytes]
  captions: tuple[str, ...]
  labels: tuple[int, ...] = ()
  areas: tuple[float, ...] = ()
  box: tuple[float, float, float, float] | None = None
  flippable: bool = True
  more: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Original(Protocol):
  """A data set in the files that its authors published; can be pickled.

  name            as `xmc prepare` and `config.data.name` call it
  class_names     the names of the l classes; there may be none
  several_labels  whether an image has any number of labels, or exactly one
  counts          {split: number of examples}, splits "train" and "heldout"
  files           the files that were read for lists and captions, {name: path}; their hashes are
                  kept in the manifest
  left_out        {why: how many}, of what the files have and the data set does not
  vocabulary      words in the order of their numbers, from 1, where the files fix one
  """
  name: str
  class_names: tuple[str, ...]
  several_labels: bool
  counts: Mapping[str, int]
  files: Mapping[str, str]
  left_out: Mapping[str, int]
  vocabulary: tuple[str, ...] | None

  def examples(self, split: str, start: int, stop: int) -> Iterator[Raw]:
    """Examples start to stop - 1 of a split, in the order of the files; the same in every process.

    An example that cannot be used is a `Raw` whose `image` raises `BadImage`.
    """


def bad(name: str, why: str) -> Raw:
  """An example that cannot be used: it has its name and nothing else."""
  def image() -> bytes:
    raise BadImage(why)
  return Raw(name, image, ())

