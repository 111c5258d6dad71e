"""The lists that AttnGAN's authors published for CUB-200-2011 and MS-COCO.

  train/filenames.pickle, test/filenames.pickle    names of images, without suffix
  train/class_info.pickle, test/class_info.pickle  a class number for each of them; CUB only
  captions.pickle                                  [captions of train, of test, words, numbers]
  text/NAME.txt, or text.zip                       the captions, one per line

They are linked under "Data" at https://github.com/taoxugit/AttnGAN. `captions.pickle` has every
caption as a list of word numbers, the same number of captions for each image, in the order of
`filenames`. Number 0 is "<end>"; words are lower-case letters and digits. There are 5,450 words for
CUB and 27,297 for COCO, 0 included, which are the rows of the embedding tables of published
weights. Words collected again from the texts are not quite the same.

The pickles were written by Python 2. They are parsed without executing anything in them.
"""
from __future__ import annotations

import dataclasses
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xmc_jax.prepare.packed import Texts
from xmc_jax.prepare.trees import Tree
from xmc_jax.types import UserError
from xmc_jax.weight_files import pickles

ADDRESS = 'https://github.com/taoxugit/AttnGAN'
FOLDERS = {'train': 'train', 'heldout': 'test'}
END = '<end>'


@dataclasses.dataclass(frozen=True)
class Words:
  """Contents of `captions.pickle`.

  Attributes:
    vocabulary: the words by number, from 1.
    captions: {split: captions of each image, in the order of `names`}; words joined by a space.
  """
  vocabulary: tuple[str, ...]
  captions: Mapping[str, Texts]


def has_names(tree: Tree) -> bool:
  """Whether the tree has the lists of the splits."""
  return tree.read(_list(FOLDERS['train'], 'filenames')) is not None


def names(tree: Tree) -> dict[str, tuple[str, ...]]:
  """Returns {split: image names} such as "001.Species/Name" or "COCO_train2014_000000000009".

  Raises:
    UserError: a list is missing or damaged, or a name occurs twice.
  """
  found = {}
  for split, folder in FOLDERS.items():
    name = _list(folder, 'filenames')
    found[split] = tuple(_elements(tree, name, str))
  both = [one for those in found.values() for one in those]
  if len(set(both)) < len(both):
    seen = set()
    twice = next(one for one in both if one in seen or seen.add(one))
    raise UserError(f'{_list("train", "filenames")} and {_list("test", "filenames")} in '
                    f'{tree.path} have {twice} twice; download them again from {ADDRESS}')
  return found


def classes(tree: Tree, split: str) -> tuple[int, ...] | None:
  """Returns the class numbers of a split's images in the order of `names`; None without a file.

  Raises:
    UserError: the file is damaged.
  """
  name = _list(FOLDERS[split], 'class_info')
  return None if tree.read(name) is None else tuple(_elements(tree, name, int))


def words(tree: Tree, images: Mapping[str, int]) -> Words | None:
  """Returns the vocabulary and the captions as words; None without a `captions.pickle`.

  Args:
    tree: that has the file.
    images: {split: number of `names`}.

  Raises:
    UserError: the file is damaged, or does not match the lists of names.
  """
  name = 'captions.pickle'
  if (content := _numbered(tree, name)) is None:
    return None
  numbers, vocabulary = content
  found = {split: _captions(tree, name, numbers[split], vocabulary, images[split], split)
           for split in FOLDERS}
  return Words(vocabulary[1:], found)


def vocabulary(path: pathlib.Path) -> tuple[str, ...]:
  """Returns the words of a file like `captions.pickle` by number, from 1.

  Raises:
    UserError: the file is missing or damaged.
  """
  content = _numbered(Tree(path.parent), path.name)
  if content is None:
    raise UserError(f'there is no file {path}; give the captions.pickle, or captions_DAMSM.pickle, '
                    f'of the same download as the weights ({ADDRESS})')
  return content[1][1:]


def _numbered(tree: Tree, name: str) -> tuple[dict[str, list[Any]], tuple[str, ...]] | None:
  """The captions of each split as lists of numbers, and the words by number."""
  content = _load(tree, name)
  if content is None:
    return None
  try:
    train, test, by_number, _ = content
    vocabulary = tuple(by_number[i] for i in range(len(by_number)))
    whole = all(isinstance(word, str) for word in vocabulary) and vocabulary[0] == END
    numbers = {'train': list(train), 'heldout': list(test)}
  except (TypeError, ValueError, LookupError) as error:
    raise _strange(tree, name) from error
  if not whole:
    raise _strange(tree, name)
  return numbers, vocabulary


def _captions(tree: Tree, name: str, numbers: list[Any], vocabulary: Sequence[str], images: int,
              split: str) -> Texts:
  each, rest = divmod(len(numbers), images) if images else (0, len(numbers))
  if rest:
    raise UserError(f'{name} in {tree.path} has {len(numbers):,} captions for the {images:,} '
                    f'images of {_list(FOLDERS[split], "filenames")}; take both from the same '
                    'download')
  try:
    lines = [_line(caption, vocabulary) for caption in numbers]
  except (TypeError, ValueError, LookupError) as error:
    raise _strange(tree, name) from error
  return Texts([line for line in lines[each * i:each * (i + 1)] if line] for i in range(images))


def _line(caption: Sequence[int] | np.ndarray, vocabulary: Sequence[str]) -> str:
  numbers = np.asarray(caption, np.int64).reshape(-1)
  if numbers.size and numbers.min() < 0:
    raise ValueError('word numbers must not be negative')
  return ' '.join(vocabulary[number] for number in numbers.tolist() if number)


def _elements(tree: Tree, name: str, kind: type) -> list[Any]:
  content = _load(tree, name)
  if content is None:
    raise UserError(f'{tree.path} has no {name}; download it again from {ADDRESS}')
  content = content.tolist() if isinstance(content, np.ndarray) else content
  if not isinstance(content, list | tuple) or not all(type(one) is kind for one in content):
    raise _strange(tree, name)
  return list(content)


def _load(tree: Tree, name: str) -> Any:
  data = tree.read(name)
  if data is None:
    return None
  try:
    return pickles.read_old(io.BytesIO(data))
  except Exception as error:     # a damaged pickle can raise anything
    why = str(error).strip().rstrip('.') or type(error).__name__
    raise UserError(f'{name} in {tree.path} cannot be read ({why}); download it again from '
                    f'{ADDRESS}') from error


def _strange(tree: Tree, name: str) -> UserError:
  return UserError(f'{name} in {tree.path} is not the list that AttnGAN publishes under this name; '
                   f'download it again from {ADDRESS}')


def _list(folder: str, name: str) -> str:
  return f'{folder}/{name}.pickle'
