"""The interface between the readers of original files and the preparation.

A reader is a module that knows how one data set is published, and nothing of shards, sizes and
codecs:

  open(source: pathlib.Path, **options) -> Original

`open` reads lists and annotations, not images. It raises a UserError that names the file that is
missing or wrong and says where it is published. `options` are the data set's own, with defaults.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol


class BadImage(Exception):
  """Says why an example cannot be used. The preparation counts it, lists it and goes on."""


@dataclasses.dataclass(frozen=True)
class OriginalExample:
  """One captioned image as the original files have it; the image is read on demand.

  Attributes:
    name: unique in its split, for messages and for the list of bad images.
    image: returns the bytes of a file of any kind that Pillow reads, or raises `BadImage` or
      OSError. It is called by the process that encodes the image.
    captions: one or more, as in the file except for white space at the ends.
    labels: indices of its classes, each once, ascending.
    areas: for each label the fraction of the image that it covers, in (0, 1]; empty if unknown.
    box: x, y, width, height of the object in pixels, if the image is to be cropped around it.
    flippable: whether the captions stay true of the mirror image.
    more: further metadata (boxes of several objects, identifiers); must be valid JSON.
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
  """A data set in the files that its authors published. Can be pickled.

  Attributes:
    name: of the set, as in `config.data.name`.
    class_names: names of the l classes; may be empty.
    several_labels: whether an image has any number of labels (True) or exactly one.
    counts: {split: number of examples} for the splits "train" and "heldout".
    files: {name: path} of the files read for lists and captions; the manifest records their hashes.
    left_out: {reason: number} of what the files contain and the data set does not.
    vocabulary: words in the order of their numbers, from 1, if the files fix them; otherwise None.
  """
  name: str
  class_names: tuple[str, ...]
  several_labels: bool
  counts: Mapping[str, int]
  files: Mapping[str, str]
  left_out: Mapping[str, int]
  vocabulary: tuple[str, ...] | None

  def examples(self, split: str, start: int, stop: int) -> Iterator[OriginalExample]:
    """Yields the examples start to stop - 1 of a split, in an order that never changes.

    An example that cannot be used is one whose `image` raises `BadImage`.
    """


def bad(name: str, why: str) -> OriginalExample:
  """Returns an example that cannot be used, for the reason `why`."""
  def image() -> bytes:
    raise BadImage(why)
  return OriginalExample(name, image, ())
