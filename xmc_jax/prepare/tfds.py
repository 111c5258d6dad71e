"""Reader of MS-COCO-14 as tensorflow_datasets prepares it: `coco_captions/2014`; needs TensorFlow.

  tfds build coco_captions/2014 --data_dir FOLDER

tensorflow_datasets follows Karpathy and Li (CVPR 2015), who divided val2014 into "val" (5,000),
"test" (5,000) and "restval" (30,504), and left train2014 as "train" (82,783). So "train" is our
training split; "restval", "val" and "test", in this order, are the held-out one. The images are
those of the reader `coco`, in the order in which tensorflow_datasets stored them.

Its files lack some details: areas are truncated to whole pixels, boxes are float32 fractions of the
image (converted back to pixels here, within a few hundredths), caption ids are those of Karpathy
and Li.
"""
from __future__ import annotations

import functools
import io
import pathlib
from collections.abc import Iterator
from typing import Any

from PIL import Image

from xmc_jax.prepare import captions, coco_objects
from xmc_jax.prepare.original import Original, OriginalExample, bad
from xmc_jax.types import UserError
from xmc_jax.utils.optional import extra

with extra('train', '--option through=tfds'):
  import tensorflow_datasets

NAME = 'coco_captions/2014'
PARTS = {'train': ('train',), 'heldout': ('restval', 'val', 'test')}


def open(source: pathlib.Path) -> Original:
  """Opens what was prepared in a folder, the `data_dir` of tensorflow_datasets.

  Raises:
    UserError: it is not there.
  """
  builder = _builder(str(source))
  missing = [part for parts in PARTS.values() for part in parts if part not in builder.info.splits]
  if missing:
    raise UserError(f'{source} has no {NAME} with the splits {", ".join(missing)}; prepare it with '
                    f'tfds build {NAME} --data_dir {source}, which downloads it')
  return TfdsCoco(str(source))


class TfdsCoco:
  """Implements `xmc_jax.prepare.original.Original`."""
  name = 'coco2014'
  several_labels = True
  vocabulary = None

  def __init__(self, source: str):
    builder = _builder(source)
    self._source = source
    self.class_names = tuple(builder.info.features['objects']['label'].names)
    self._sizes = {part: builder.info.splits[part].num_examples
                   for parts in PARTS.values() for part in parts}
    self.counts = {split: sum(self._sizes[part] for part in parts)
                   for split, parts in PARTS.items()}
    # The 20 GB of data contain the images; only their description is hashed.
    files = ('dataset_info.json', 'features.json')
    self.files = {name: str(pathlib.Path(builder.data_dir, name)) for name in files}
    self.left_out = {}

  def examples(self, split: str, start: int, stop: int) -> Iterator[OriginalExample]:
    """See `Original`."""
    builder = _builder(self._source)
    skip = {'image': tensorflow_datasets.decode.SkipDecoding()}
    # Files are read one after the other, so that a range does not depend on where it starts.
    in_order = tensorflow_datasets.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    for part in PARTS[split]:
      first, last = max(start, 0), min(stop, self._sizes[part])
      if first < last:
        found = builder.as_dataset(f'{part}[{first}:{last}]', decoders=skip,
                                   read_config=in_order)
        yield from map(_example, found.as_numpy_iterator())
      start, stop = start - self._sizes[part], stop - self._sizes[part]


def _example(example: dict[str, Any]) -> OriginalExample:
  name, image = example['image/filename'].decode(), example['image']
  pairs = [(captions.clean(text.decode()), int(number))
          for text, number in zip(example['captions']['text'], example['captions']['id'])]
  pairs = [one for one in pairs if one[0]]
  if not pairs:
    return bad(name, 'it has no caption')
  try:
    width, height = Image.open(io.BytesIO(image)).size
  except Exception as error:  # Pillow raises many kinds of errors
    return bad(name, f'it cannot be read ({type(error).__name__})')
  marks = _marks(example['objects'], width, height)
  texts = tuple(text for text, _ in pairs)
  return OriginalExample(
      name, functools.partial(bytes, image), texts, marks.labels, marks.areas,
      flippable=captions.may_flip(texts),
      more={'image_id': int(example['image/id']), 'caption_ids': [n for _, n in pairs],
            **marks.more})


def _marks(objects: dict[str, Any], width: int, height: int) -> coco_objects.Marks:
  boxes = [(left * width, top * height, (right - left) * width, (bottom - top) * height)
           for top, left, bottom, right in objects['bbox'].tolist()]
  return coco_objects.marks(objects['label'].tolist(), objects['area'].tolist(), boxes,
                            objects['is_crowd'].tolist(), width, height)


@functools.cache
def _builder(source: str) -> tensorflow_datasets.core.DatasetBuilder:
  return tensorflow_datasets.builder(NAME, data_dir=source)
