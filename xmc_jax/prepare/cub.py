"""Reader of CUB-200-2011: 8,855 training images of 150 bird species, 2,933 of 50 others held out.

Ten captions per image, by Reed et al. (https://arxiv.org/abs/1605.05395). The source folder holds

  CUB_200_2011/            images.txt, image_class_labels.txt, classes.txt, bounding_boxes.txt and
                           images/, as in CUB_200_2011.tgz; or the source folder is this one
  birds/ or birds.zip      lists and captions of AttnGAN, see `xmc_jax.prepare.metadata`; the lists
                           and text/ may also be in the source folder itself
  cvpr2016_cub/            or what Reed et al. published: trainvalclasses.txt, testclasses.txt and
                           text_c10/001.Species/Name.txt

No species is in both splits. CUB's own train_test_split.txt is a different split, with all species
in both halves; the right one does not follow from CUB's files. Captions are the lines of the text
files; if there are none, the words of `captions.pickle`, which are lower-case and without
punctuation. Reed's .t7 and .h5 files hold embeddings of captions and are not read.

Examples are images, in the order of AttnGAN's lists or of images.txt. The label is the species, the
box is the bird's.
"""
from __future__ import annotations

import functools
import pathlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from xmc_jax.prepare import metadata
from xmc_jax.prepare.captions import clean, may_flip
from xmc_jax.prepare.cub_lists import Birds, read_birds
from xmc_jax.prepare.original import Original, OriginalExample
from xmc_jax.prepare.packed import Texts
from xmc_jax.prepare.trees import Tree
from xmc_jax.types import UserError
from xmc_jax.utils import regular
from xmc_jax.utils.text_lines import numbered_lines

REED = 'https://github.com/reedscot/cvpr2016'
CLASSES = {'train': 'trainvalclasses.txt', 'heldout': 'testclasses.txt'}
BESIDE = ('birds', 'birds.zip', '', 'cvpr2016_cub')
TEXTS = ('text', 'text_c10')


def open(source: pathlib.Path, captions: str | None = None) -> Original:
  """Opens the data set.

  Args:
    source: folder of the files.
    captions: folder or zip with the captions and the lists of the split, if they are not in
      `source`.

  Raises:
    UserError: a file is missing or damaged, or two of them contradict each other.
  """
  return Cub(pathlib.Path(source), captions)


class Cub:
  """Implements `xmc_jax.prepare.original.Original`."""
  name = 'cub'
  several_labels = False

  def __init__(self, source: pathlib.Path, captions: str | None):
    self._birds, self.files = read_birds(source)
    self.class_names = self._birds.class_names
    trees = _trees(source, captions)
    missed: Counter[str] = Counter()
    listed, published = _split(trees, self._birds, self.files, missed)
    texts, self.vocabulary = _captions(trees, published, listed, self.files)
    self._keys, self._captions = {}, {}
    for split, keys in listed.items():
      if not set(keys) & set(self._birds.numbers):
        raise UserError(
          f'{_places(trees)}: the list of the {split} split has {len(keys):,} names'
          f'{f", first {keys[0]}," if keys else ""} and none of them is an image of images.txt; '
          f'take the lists of {metadata.ADDRESS} or {REED}, or write your own with such names')
      rows = [row for row, key in enumerate(keys) if key in self._birds.numbers]
      captioned = [row for row in rows if texts[split][row]]
      missed[f'{split}, images that images.txt does not list'] += len(keys) - len(rows)
      missed[f'{split}, images without a caption'] += len(rows) - len(captioned)
      self._keys[split] = tuple(keys[row] for row in captioned)
      self._captions[split] = Texts(texts[split][row] for row in captioned)
      if not captioned:
        raise UserError(
          f'{_places(trees)}: no image of the {split} split has a caption; take text/ of '
          f'{metadata.ADDRESS} or text_c10/ of {REED}, whose .t7 and .h5 files are not read')
    self.counts = {split: len(keys) for split, keys in self._keys.items()}
    self.left_out = {why: count for why, count in missed.items() if count}

  def examples(self, split: str, start: int, stop: int) -> Iterator[OriginalExample]:
    """See `Original`."""
    for row in range(start, stop):
      key = self._keys[split][row]
      number, texts = self._birds.numbers[key], self._captions[split][row]
      image = self._birds.images / f'{key}.jpg'
      yield OriginalExample(
          key, functools.partial(regular.read, image), texts,
          (self._birds.labels[number],), box=self._birds.boxes[number],
          flippable=may_flip(texts), more={'image_id': number})


def _trees(source: pathlib.Path, captions: str | None) -> list[Tree]:
  """Returns where captions and lists of the split may be, the preferred place first."""
  if captions:
    return [Tree(pathlib.Path(captions))]
  root = source.parent if (source / 'images.txt').is_file() else source
  return [Tree(root / name) for name in BESIDE if (root / name).exists()]


def _split(trees: Sequence[Tree], birds: Birds, files: dict[str, str],
           missed: Counter[str]) -> tuple[dict[str, Sequence[str]], Tree | None]:
  """Returns {split: names of its images}, and the tree of AttnGAN's lists if they are used."""
  published = None
  for tree in trees:
    if metadata.has_names(tree):
      listed, published = metadata.names(tree), tree
      for split, folder in metadata.FOLDERS.items():
        files[f'{folder}/filenames.pickle'] = str(tree.file(f'{folder}/filenames.pickle'))
        _check_classes(tree, split, listed[split], birds, files)
      break
    if tree.read(CLASSES['train']) is not None:
      listed = _split_of_species(tree, birds, files)
      break
  else:
    raise UserError(
      f'{_places(trees)} has no train/filenames.pickle, the split that the literature uses; '
      f'download the metadata for birds from {metadata.ADDRESS} and put birds.zip, or its '
      f'contents, there; or {CLASSES["train"]} and {CLASSES["heldout"]} from {REED}')
  named = {key for keys in listed.values() for key in keys}
  missed['images of species or names that no split lists'] += len(set(birds.numbers) - named)
  return listed, published


def _check_classes(tree: Tree, split: str, keys: Sequence[str], birds: Birds,
                   files: dict[str, str]) -> None:
  """Raises UserError if class_info.pickle and image_class_labels.txt disagree about species."""
  numbers = metadata.classes(tree, split)
  if numbers is None:
    return
  name = f'{metadata.FOLDERS[split]}/class_info.pickle'
  files[name] = str(tree.file(name))
  if len(numbers) != len(keys):
    raise UserError(f'{name} in {tree.path} has {len(numbers):,} numbers for {len(keys):,} '
                    f'images; download it again from {metadata.ADDRESS}')
  there, back = {}, {}
  for key, number in zip(keys, numbers, strict=True):
    label = birds.labels[birds.numbers[key]] if key in birds.numbers else None
    if label is None:
      continue
    if there.setdefault(number, label) != label or back.setdefault(label, number) != number:
      raise UserError(f'{name} in {tree.path} and image_class_labels.txt disagree about the '
                      f'species of {key}; download both again')


def _split_of_species(tree: Tree, birds: Birds,
                      files: dict[str, str]) -> dict[str, Sequence[str]]:
  listed, known = {}, {}
  for split, name in CLASSES.items():
    content = tree.read(name)
    if content is None:
      raise UserError(f'{tree.path} has no {name}; it is published at {REED}')
    files[name] = str(tree.file(name))
    for species in content.decode('latin1').split():
      if species not in birds.class_names or species in known:
        why = f'is also in {known[species]}' if species in known else 'is not in classes.txt'
        raise UserError(f'{species} of {name} in {tree.path} {why}; download it again from {REED}')
      known[species] = name
    listed[split] = tuple(
      key for key, number in birds.numbers.items()
      if known.get(birds.class_names[birds.labels[number]]) == name)
  return listed


def _captions(trees: Sequence[Tree], published: Tree | None, listed: Mapping[str, Sequence[str]],
              files: dict[str, str]) -> tuple[Mapping[str, Texts], tuple[str, ...] | None]:
  """Returns {split: captions of each of its names}, and the vocabulary if the files fix one."""
  lengths = {split: len(keys) for split, keys in listed.items()}
  words = None if published is None else metadata.words(published, lengths)
  if words is not None:
    files['captions.pickle'] = str(published.file('captions.pickle'))
  texts = _texts(trees, files)
  if texts is None and words is None:
    raise UserError(
      f'{_places(trees)} has no text/ with captions, nor text.zip, text_c10/ or captions.pickle; '
      f'download the metadata for birds from {metadata.ADDRESS}, or the captions from {REED}')
  vocabulary = None if words is None else words.vocabulary
  if texts is None:
    return words.captions, vocabulary
  tree, folder = texts
  return {split: Texts(_lines(tree.read(f'{folder}{key}.txt')) for key in keys)
          for split, keys in listed.items()}, vocabulary


def _texts(trees: Sequence[Tree], files: dict[str, str]) -> tuple[Tree, str] | None:
  """Returns the tree of the text files, and their folder in it with a slash at the end."""
  for tree in trees:
    for name in TEXTS:
      if tree.has_folder(name):
        return tree, f'{name}/'
    inner = tree.inner('text.zip')
    if inner is not None:
      files['text.zip'] = str(tree.file('text.zip'))
      return inner, ''
  return None


def _lines(text: bytes | None) -> list[str]:
  """Returns the captions of a text file, one per line. Bytes that are not UTF-8 become spaces."""
  lines = numbered_lines((text or b'').decode('utf-8-sig', 'replace'))
  lines = (clean(re.sub('\ufffd+', ' ', line)) for _, line in lines)
  return [line for line in lines if line]


def _places(trees: Sequence[Tree]) -> str:
  return ' or '.join(str(tree.path) for tree in trees) or 'the folder'
