"""CUB-200-2011: 8,855 images of 150 birds to train with, 2,933 of 50 others held out.

Ten captions an image, by Reed et al. (https://arxiv.org/abs/1605.05395). The folder holds

  CUB_200_2011/            images.txt, image_class_labels.txt, classes.txt, bounding_boxes.txt and
                           images/, as CUB_200_2011.tgz has them; or the folder is this one
  birds/ or birds.zip      the lists and captions of AttnGAN, see `xmc_jax.prepare.metadata`; the
                           lists and text/ may also lie in the folder itself
  cvpr2016_cub/            or what Reed et al. published: trainvalclasses.txt, testclasses.txt and
                           text_c10/001.Species/Name.txt

No species is in both splits. The split of CUB's own train_test_split.txt is another one, with all
species in both halves, and the right one does not follow from CUB's files. Of captions the lines
of text files are taken; where there are none, the words of `captions.pickle`, which are lower-case
and without punctuation. Reed's .t7 and .h5 files hold codes of captions and are not read.

An image is one example, in the order of AttnGAN's lists, or of images.txt. Its label is its
species, its box the bird's.
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
from xmc_jax.prepare.original import Original, Raw
from xmc_jax.prepare.packed import Texts
from xmc_jax.prepare.trees import Tree
from xmc_jax.types import UserError

REED = 'https://github.com/reedscot/cvpr2016'
CLASSES = {'train': 'trainvalclasses.txt', 'heldout': 'testclasses.txt'}
BESIDE = ('birds', 'birds.zip', '', 'cvpr2016_cub')
TEXTS = ('text', 'text_c10')


def open(source: pathlib.Path, captions: str | None = None) -> Original:
  """Opens the data set.

  Args:
    source: the folder of the files.
    captions: a folder or zip with the captions and the lists of the split, where they do not lie
      in `source`.

  Raises:
    UserError: if a file is missing or damaged, or two of them contradict each other.
  """
  return Cub(pathlib.Path(source), captions)


class Cub:
  """See `xmc_jax.prepare.original.Original`."""
  name = 'cub'
  several_labels = False

  def __init__(self, source: pathlib.Path, captions: str | None):
    self._birds, self.files = read_birds(source)
    self.class_names = self._birds.class_names
    trees = _trees(source, captions)
    missed: Counter[str] = Counter()
    listed, published = _split(trees, self._birds, self.files, missed)
    said, self.vocabulary = _captions(trees, published, listed, self.files)
    self._keys, self._captions = {}, {}
    for split, keys in listed.items():
      rows = [row for row, key in enumerate(keys) if key in self._birds.numbers]
      spoken = [row for row in rows if said[split][row]]
      missed[f'{split}, images that images.txt does not list'] += len(keys) - len(rows)
      missed[f'{split}, images without a caption'] += len(rows) - len(spoken)
      self._keys[split] = tuple(keys[row] for row in spoken)
      self._captions[split] = Texts(said[split][row] for row in spoken)
      if not spoken:
        raise UserError(
          f'No image of the {split} split has a caption in {_places(trees)}; take text/ of '
          f'{metadata.ADDRESS} or text_c10/ of {REED}, whose .t7 and .h5 files are not read.')
    self.counts = {split: len(keys) for split, keys in self._keys.items()}
    self.left_out = {why: count for why, count in missed.items() if count}

  def examples(self, split: str, start: int, stop: int) -> Iterator[Raw]:
    """See `Original`."""
    for row in range(start, stop):
      key = self._keys[split][row]
      number, said = self._birds.numbers[key], self._captions[split][row]
      image = self._birds.images / f'{key}.jpg'
      yield Raw(key, functools.partial(pathlib.Path.read_bytes, image), said,
                (self._birds.labels[number],), box=self._birds.boxes[number],
                flippable=may_flip(said), more={'image_id': number})


def _trees(source: pathlib.Path, captions: str | None) -> list[Tree]:
  """Where captions and lists of the split may lie, the preferred place first."""
  if captions:
    return [Tree(pathlib.Path(captions))]
  root = source.parent if (source / 'images.txt').is_file() else source
  return [Tree(root / name) for name in BESIDE if (root / name).exists()]


def _split(trees: Sequence[Tree], birds: Birds, files: dict[str, str],
           missed: Counter[str]) -> tuple[dict[str, Sequence[str]], Tree | None]:
  """{split: names of its images}, after lists of images or of species; where AttnGAN's lie."""
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
      f'contents, there; or {CLASSES["train"]} and {CLASSES["heldout"]} from {REED}.')
  named = {key for keys in listed.values() for key in keys}
  missed['images of species or names that no split lists'] += len(set(birds.numbers) - named)
  return listed, published


def _check_classes(tree: Tree, split: str, keys: Sequence[str], birds: Birds,
                   files: dict[str, str]) -> None:
  """The numbers of class_info.pickle and of image_class_labels.txt are to name the same species."""
  numbers = metadata.classes(tree, split)
  if numbers is None:
    return
  name = f'{metadata.FOLDERS[split]}/class_info.pickle'
  files[name] = str(tree.file(name))
  if len(numbers) != len(keys):
    raise UserError(f'{name} in {tree.path} has {len(numbers):,} numbers for {len(keys):,} '
                    f'images; download it again from {metadata.ADDRESS}.')
  there, back = {}, {}
  for key, number in zip(keys, numbers, strict=True):
    label = birds.labels[birds.numbers[key]] if key in birds.numbers else None
    if label is None:
      continue
    if there.setdefault(number, label) != label or back.setdefault(label, number) != number:
      raise UserError(f'{name} in {tree.path} and image_class_labels.txt disagree about the '
                      f'species of {key}; download both again.')


def _split_of_species(tree: Tree, birds: Birds,
                      files: dict[str, str]) -> dict[str, Sequence[str]]:
  listed, known = {}, {}
  for split, name in CLASSES.items():
    content = tree.read(name)
    if content is None:
      raise UserError(f'{tree.path} has no {name}; it is published at {REED}.')
    files[name] = str(tree.file(name))
    for species in content.decode('latin1').split():
      if species not in birds.class_names or species in known:
        why = f'is also in {known[species]}' if species in known else 'is not in classes.txt'
        raise UserError(f'{species} of {name} in {tree.path} {why}; download it again from {REED}.')
      known[species] = name
    listed[split] = tuple(
      key for key, number in birds.numbers.items()
      if known.get(birds.class_names[birds.labels[number]]) == name)
  return listed


def _captions(trees: Sequence[Tree], published: Tree | None, listed: Mapping[str, Sequence[str]],
              files: dict[str, str]) -> tuple[Mapping[str, Texts], tuple[str, ...] | None]:
  """{split: captions of each of its names}, and the vocabulary where the files fix one."""
  lengths = {split: len(keys) for split, keys in listed.items()}
  words = None if published is None else metadata.words(published, lengths)
  if words is not None:
    files['captions.pickle'] = str(published.file('captions.pickle'))
  texts = _texts(trees, files)
  if texts is None and words is None:
    raise UserError(
      f'{_places(trees)} has no text/ with captions, nor text.zip, text_c10/ or captions.pickle; '
      f'download the metadata for birds from {metadata.ADDRESS}, or the captions from {REED}.')
  vocabulary = None if words is None else words.vocabulary
  if texts is None:
    return words.captions, vocabulary
  tree, folder = texts
  return {split: Texts(_lines(tree.read(f'{folder}{key}.txt')) for key in keys)
          for split, keys in listed.items()}, vocabulary


def _texts(trees: Sequence[Tree], files: dict[str, str]) -> tuple[Tree, str] | None:
  """Where the text files lie, and the folder there with its slash."""
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
  """The captions of a text file: its lines. U+FFFD stands where a character was lost."""
  lines = (text or b'').decode('utf-8-sig', 'replace').split('\n')
  lines = (clean(re.sub('\ufffd+', ' ', line)) for line in lines)
  return [line for line in lines if line]


def _places(trees: Sequence[Tree]) -> str:
  return ' or '.join(str(tree.path) for tree in trees) or 'The folder'
