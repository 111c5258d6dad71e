"""CUB-200-2011 from its original files: splits, captions, species and boxes counted by hand."""
import io
import pathlib
import pickle
import shutil

import cub_files
import numpy as np
import pytest
from cub_files import CAPTIONS, KEY, SPECIES
from PIL import Image

from xmc_jax.prepare import cub
from xmc_jax.types import UserError


@pytest.fixture
def root(tmp_path):
  """The folder that holds CUB_200_2011."""
  cub_files.write_images(tmp_path)
  return tmp_path


def examples(original):
  return {split: list(original.examples(split, 0, count))
          for split, count in original.counts.items()}


def names(original):
  return {split: [raw.name for raw in those] for split, those in examples(original).items()}


ATTNGAN = {'train': [KEY[5], KEY[1], KEY[2], KEY[6]], 'heldout': [KEY[4], KEY[3]]}
REED = {'train': [KEY[1], KEY[2], KEY[5], KEY[6]], 'heldout': [KEY[3], KEY[4]]}


def test_all_of_an_example(root):
  cub_files.write(root / 'birds', cub_files.attngan())
  original = pickle.loads(pickle.dumps(cub.open(root)))
  assert original.name == 'cub' and original.several_labels is False
  assert original.class_names == SPECIES and original.vocabulary is None
  assert original.counts == {'train': 4, 'heldout': 2} and original.left_out == {}
  first, second, _, _ = original.examples('train', 0, 4)
  assert first.name == KEY[5] and first.labels == (2,) and first.areas == ()
  assert first.captions == CAPTIONS[5] and first.box == (1.0, 2.0, 3.0, 4.0) and first.flippable
  assert second.box == (6.0, 2.5, 20.0, 24.0) and not second.flippable   # "to its left"
  assert second.more == {'image_id': 1}
  image = np.asarray(Image.open(io.BytesIO(second.image())))
  assert np.abs(image.astype(int) - cub_files.pixels(1)).mean() < 2
  assert [raw.name for raw in original.examples('train', 1, 3)] == ATTNGAN['train'][1:3]
  assert set(original.files) == {
    'images.txt', 'image_class_labels.txt', 'classes.txt', 'bounding_boxes.txt',
    'train/filenames.pickle', 'test/filenames.pickle', 'train/class_info.pickle',
    'test/class_info.pickle'}


@pytest.mark.parametrize('lay_out', ['folder', 'beside', 'zip', 'zip in zip', 'zip in folder',
                                     'named', 'inside'])
def test_every_place_of_the_lists_gives_the_same(root, tmp_path_factory, lay_out):
  files = cub_files.attngan()
  lists = {name: content for name, content in files.items() if not name.startswith('text')}
  texts = {name: content for name, content in files.items() if name.startswith('text')}
  packed = cub_files.zipped(tmp_path_factory.mktemp('x') / 'text.zip', texts).read_bytes()
  options, source = {}, root
  if lay_out == 'folder':
    cub_files.write(root / 'birds', files)
  elif lay_out == 'beside':
    cub_files.write(root, files)
  elif lay_out == 'zip':
    cub_files.zipped(root / 'birds.zip', files, 'birds/')
  elif lay_out == 'zip in zip':
    cub_files.zipped(root / 'birds.zip', lists | {'text.zip': packed}, 'birds/')
  elif lay_out == 'zip in folder':
    cub_files.write(root / 'birds', lists | {'text.zip': packed})
  elif lay_out == 'named':
    options = {'captions': str(cub_files.write(tmp_path_factory.mktemp('elsewhere'), files))}
  else:
    source = root / 'CUB_200_2011'
    cub_files.write(root / 'birds', files)
  original = cub.open(source, **options)
  assert names(original) == ATTNGAN
  assert [raw.captions for raw in original.examples('heldout', 0, 2)] == [CAPTIONS[4], CAPTIONS[3]]
  assert all(pathlib.Path(path).is_file() for path in original.files.values())


def test_the_files_of_reed(root):
  cub_files.write(root / 'cvpr2016_cub', cub_files.reed())
  original = cub.open(root)
  assert names(original) == REED
  assert [raw.captions for raw in original.examples('train', 0, 4)] == [
    CAPTIONS[n] for n in (1, 2, 5, 6)]
  assert 'trainvalclasses.txt' in original.files and original.vocabulary is None


def test_split_of_one_and_texts_of_the_other(root):
  lists = {name: content for name, content in cub_files.attngan().items() if 'text' not in name}
  cub_files.write(root / 'birds', lists)
  with pytest.raises(UserError, match='no text/ with captions'):
    cub.open(root)
  cub_files.write(root / 'cvpr2016_cub', cub_files.reed())
  assert names(cub.open(root)) == ATTNGAN


def test_words_of_the_pickle_are_captions_where_there_are_no_texts(root):
  words = ('a', 'bird', 'black', 'left')
  files = cub_files.attngan()
  files['captions.pickle'] = cub_files.captions_pickle(
    [[1, 3, 2], [1, 2], [2], [3], [1], [4], [3, 3], [2, 2]], [[2], [3], [1, 1], [2, 1]], words)
  cub_files.write(root / 'birds', files)
  original = cub.open(root)
  assert original.vocabulary == words and 'captions.pickle' in original.files
  assert next(original.examples('train', 0, 1)).captions == CAPTIONS[5]
  shutil.rmtree(root / 'birds' / 'text')
  original = cub.open(root)
  assert original.vocabulary == words
  assert [raw.captions for raw in original.examples('train', 0, 4)] == [
    ('a black bird', 'a bird'), ('bird', 'black'), ('a', 'left'), ('black black', 'bird bird')]
  assert [raw.flippable for raw in original.examples('train', 0, 4)] == [True, True, False, True]
  assert [raw.captions for raw in original.examples('heldout', 0, 2)] == [
    ('bird', 'black'), ('a a', 'bird a')]


def test_texts_are_cleaned(root):
  files = cub_files.attngan()
  files[f'text/{KEY[1]}.txt'] = (b'\xef\xbb\xbfone\r\n\r\n two  words \xef\xbf\xbd\xef\xbf\xbdhere'
                                 b'\ncaf\xe9 bird\n\xef\xbf\xbd\n')
  cub_files.write(root / 'birds', files)
  assert list(cub.open(root).examples('train', 1, 2))[0].captions == (
    'one', 'two words here', 'caf bird')


def test_what_is_left_out_is_counted(root):
  files = cub_files.attngan(train=(5, 1, 6))
  files['train/filenames.pickle'] = cub_files.python2(
    [b'9.Dodo/D', *(KEY[n].encode() for n in (5, 1, 6))])
  files['train/class_info.pickle'] = cub_files.python2([9, 3, 1, 3])
  files[f'text/{KEY[1]}.txt'] = b' \n'
  del files[f'text/{KEY[3]}.txt']
  original = cub.open(cub_files.write(root / 'birds', files).parent)
  assert names(original) == {'train': [KEY[5], KEY[6]], 'heldout': [KEY[4]]}
  assert original.left_out == {
    'images of species or names that no split lists': 1,
    'train, images that images.txt does not list': 1, 'train, images without a caption': 1,
    'heldout, images without a caption': 1}


def test_a_lost_image_is_an_error_of_its_own(root):
  cub_files.write(root / 'birds', cub_files.attngan())
  (root / 'CUB_200_2011' / 'images' / f'{KEY[5]}.jpg').unlink()
  first, second = cub.open(root).examples('train', 0, 2)
  assert second.image()
  with pytest.raises(OSError):
    first.image()


def refused(source, words, **options):
  with pytest.raises(UserError, match=words) as error:
    cub.open(source, **options)
  assert '\n' not in str(error.value)


def test_what_is_missing_is_named_and_where_it_is_published(tmp_path):
  refused(tmp_path, r'CUB_200_2011/images\.txt; download .*caltech')
  (tmp_path / 'CUB_200_2011.tgz').write_bytes(b'')
  refused(tmp_path, 'tar -xzf .*CUB_200_2011.tgz')
  refused(tmp_path / 'CUB_200_2011.tgz', 'tar -xzf .*CUB_200_2011.tgz')
  root = cub_files.write_images(tmp_path)
  refused(tmp_path, r'train/filenames\.pickle.*taoxugit/AttnGAN')
  refused(tmp_path, 'neither a folder nor a complete zip', captions=str(tmp_path / 'none'))
  files = cub_files.reed()
  cub_files.write(tmp_path / 'cvpr2016_cub', {'trainvalclasses.txt': files['trainvalclasses.txt']})
  refused(tmp_path, r'no testclasses\.txt.*reedscot')
  embeddings = {name.replace('.txt', '.h5') if 'c10' in name else name: content
           for name, content in files.items()}
  cub_files.write(tmp_path / 'cvpr2016_cub', embeddings)
  refused(tmp_path, r'\.t7 and \.h5 files are not read')
  cub_files.write(tmp_path / 'birds', {'train/filenames.pickle': cub_files.python2([b'a'])})
  refused(tmp_path, r'no test/filenames\.pickle')
  (root / 'bounding_boxes.txt').unlink()
  refused(tmp_path, r'bounding_boxes\.txt cannot be read')


@pytest.mark.parametrize('name, content, words', [
  ('CUB_200_2011/image_class_labels.txt', b'1 1\n2 1\n3 2\n4 2\n5 3\n6 4\n', "the species '4'"),
  ('CUB_200_2011/image_class_labels.txt', b'1 1\n2 1\n3 2\n4 2\n5 3\n', 'no line for image 6'),
  ('CUB_200_2011/image_class_labels.txt', b'1 1\n1 2\n', 'cannot be read'),
  ('CUB_200_2011/image_class_labels.txt', b'', 'is empty'),
  ('CUB_200_2011/bounding_boxes.txt', b'1 1 2 3\n', 'no line for image 2'),
  ('CUB_200_2011/image_class_labels.txt', b'1 2\n2 1\n3 2\n4 2\n5 3\n6 3\n', 'disagree'),
  ('birds/train/class_info.pickle', cub_files.python2([3, 1, 1, 2]), 'disagree about the species'),
  ('birds/train/class_info.pickle', cub_files.python2([3, 1, 1]), '3 numbers for 4 images')])
def test_lists_that_contradict_each_other(root, name, content, words):
  cub_files.write(root / 'birds', cub_files.attngan())
  cub_files.write(root, {name: content})
  refused(root, words)


@pytest.mark.parametrize('name, content, words', [
  ('testclasses.txt', f'{SPECIES[0]}\n', 'is also in trainvalclasses'),
  ('testclasses.txt', '004.Dodo\n', 'is not in classes.txt')])
def test_lists_of_species_that_cannot_be(root, name, content, words):
  cub_files.write(root / 'cvpr2016_cub', cub_files.reed() | {name: content.encode()})
  refused(root, words)


@pytest.mark.parametrize('keys, words', [
  ([], 'the train split has 0 names'),
  ([b'no/bird'], 'has 1 names, first no/bird, and none of them is an image')])
def test_lists_that_name_no_image_are_told_apart_from_missing_captions(root, keys, words):
  for name, content in {'train/filenames.pickle': cub_files.python2(keys),
                        'test/filenames.pickle': cub_files.python2([KEY[4].encode()]),
                        f'text/{KEY[4]}.txt': b'a bird'}.items():
    path = root / 'birds' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
  with pytest.raises(UserError, match=words):
    cub.open(root)
