"""AttnGAN's lists: pickles as Python 2 wrote them, and pickles that would do harm."""
import pickle

import cub_files
import numpy as np
import pytest

from xmc_jax.prepare import metadata
from xmc_jax.prepare.trees import Tree
from xmc_jax.types import UserError

WORDS = ('a', 'bird', 'black', 'caf\u00e9')


def tree(tmp_path, **files):
  """A folder with captions.pickle, or with `train_filenames` and the like."""
  return Tree(cub_files.write(tmp_path, {
    f'{name.replace("_", "/", 1)}.pickle': content for name, content in files.items()}))


def test_the_test_writes_what_python_reads_as_meant():
  value = [[3, 300, -1], {b'k\xe9': 'w\u00f6rd'}, np.int64([5, 1000])]
  lists, named, array = pickle.loads(cub_files.python2(value), encoding='latin1')
  assert lists == [3, 300, -1] and named == {'k\u00e9': 'w\u00f6rd'}
  np.testing.assert_array_equal(array, [5, 1000])


@pytest.mark.parametrize('kind', [list, np.int64, np.int32])
def test_captions_are_words_again_whatever_kind_of_list(tmp_path, kind):
  # 0xe9 and 200 as bytes of an array or a str are what makes ASCII fail.
  train = [kind([1, 3, 2]), kind([2]), kind([4, 0]), kind([1, 1])]
  content = cub_files.captions_pickle(train, [kind([2, 3]), kind([])], WORDS)
  words = metadata.words(tree(tmp_path, captions=content), {'train': 2, 'heldout': 1})
  assert words.vocabulary == WORDS
  assert list(words.captions['train']) == [('a black bird', 'bird'), ('caf\u00e9', 'a a')]
  assert list(words.captions['heldout']) == [('bird black',)]


def test_strings_of_python_2_are_latin_1(tmp_path):
  content = cub_files.captions_pickle([[200]], [[1]], [b'w\xe9'] * 200)
  words = metadata.words(tree(tmp_path, captions=content), {'train': 1, 'heldout': 1})
  assert words.captions['train'][0] == ('w\u00e9',)


def test_names_and_classes(tmp_path):
  place = tree(tmp_path, train_filenames=cub_files.python2([b'001.X/A', '003.Y/B']),
               test_filenames=b"(lp0\nS'COCO_val2014_000000000042'\np1\na.",   # protocol 0
               train_class_info=cub_files.python2([1, np.int64(3)]))
  assert metadata.has_names(place)
  assert metadata.names(place) == {'train': ('001.X/A', '003.Y/B'),
                                   'heldout': ('COCO_val2014_000000000042',)}
  assert metadata.classes(place, 'train') == (1, 3) and metadata.classes(place, 'heldout') is None
  assert metadata.words(place, {'train': 2, 'heldout': 1}) is None


def test_classes_may_be_an_array_that_python_3_wrote(tmp_path):
  content = pickle.dumps(np.int64([7, 200]), protocol=2)
  assert b'_codecs' in content
  assert metadata.classes(tree(tmp_path, test_class_info=content), 'heldout') == (7, 200)


class _Harm:
  def __init__(self, made):
    self.made = made

  def __reduce__(self):
    import os
    return os.system, (f'mkdir {self.made}',)


@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_a_pickle_runs_nothing(tmp_path, protocol):
  made = tmp_path / 'made'
  content = pickle.dumps([[[1]], [], {0: '<end>', 1: _Harm(made)}, {}], protocol)
  with pytest.raises(UserError, match=r'captions\.pickle .* refers to posix\.system'):
    metadata.words(tree(tmp_path, captions=content), {'train': 1, 'heldout': 1})
  listed = pickle.dumps([_Harm(made)], protocol)
  with pytest.raises(UserError, match=r'train/filenames\.pickle .* refers to posix\.system'):
    metadata.names(tree(tmp_path, train_filenames=listed))
  assert not made.exists()


@pytest.mark.parametrize('name, content, words', [
  ('captions', b'\x80\x02](', 'cannot be read'),
  ('captions', b'', 'cannot be read'),
  ('captions', cub_files.python2([1, 2]), 'is not the list'),
  ('captions', cub_files.python2({}), 'is not the list'),
  ('captions', cub_files.captions_pickle([[9]] * 2, [[1]], WORDS), 'is not the list'),
  ('captions', cub_files.captions_pickle([[-1]] * 2, [[1]], WORDS), 'is not the list'),
  ('captions', cub_files.captions_pickle([b'a'] * 2, [[1]], WORDS), 'is not the list'),
  ('captions', cub_files.python2([[], [], {0: b'<end>', 2: b'a'}, {}]), 'is not the list'),
  ('captions', cub_files.python2([[], [], {0: b'a', 1: b'b'}, {}]), 'is not the list'),
  ('captions', cub_files.captions_pickle([[1]] * 3, [[1]], WORDS), '3 captions for the 2'),
  ('train_filenames', cub_files.python2([1]), 'is not the list'),
  ('train_filenames', cub_files.python2(np.float64([1])), 'is not the list'),
  ('train_filenames', cub_files.python2([b'a', b'b', b'a']), 'have a twice'),
  ('train_filenames', cub_files.python2([b'x']), 'have x twice')])
def test_damaged_lists(tmp_path, name, content, words):
  place = tree(tmp_path, test_filenames=cub_files.python2([b'x']), **{name: content})
  with pytest.raises(UserError, match=words):
    if name == 'captions':
      metadata.words(place, {'train': 2, 'heldout': 1})
    else:
      metadata.names(place)


def test_a_zip_in_a_zip_and_its_top_folder(tmp_path):
  inner = cub_files.zipped(tmp_path / 'inner.zip', {'text/a.txt': b'hello'}).read_bytes()
  path = cub_files.zipped(tmp_path / 'x.zip', {
    'birds/text.zip': inner, 'birds/train/a': b'1', '__MACOSX/train/b': b'2'})
  place = Tree(path)
  assert place.read('train/a') == b'1' and place.read('train/b') is None
  assert place.has_folder('train') and not place.has_folder('text')
  assert place.inner('text.zip').read('a.txt') == b'hello' and place.inner('b.zip') is None
  assert place.file('train/a') == path
  path.write_bytes(path.read_bytes()[:40])
  with pytest.raises(UserError, match='nor a complete zip'):
    Tree(path)
