"""Images of one's own: text files, splits, labels, and the mistakes of a beginner."""
import hashlib
import io
import os
import pathlib
import pickle

import numpy as np
import pytest
from folder_files import HEAD, KINDS, TWO, found, in_splits, raws, refused, write
from PIL import Image

from xmc_jax.prepare import folder


def test_text_files_beside_images_of_all_kinds(tmp_path):
  names = [f'train/{i}{ending}' for i, ending in enumerate([*KINDS, '.JPG'])] + ['test/deep/x.png']
  texts = {name.rsplit('.', 1)[0] + '.txt': f'\ufeffnumber {i}\r\n\r\n  two  words \n'
           for i, name in enumerate(names)}
  root = write(tmp_path / 'flowers', names, texts | {'README.txt': 'not a caption'})
  write(root, ['.hidden/y.png', '__MACOSX/y.png'], {'train/.0.jpg': b'resource fork'})
  original = pickle.loads(pickle.dumps(folder.open(root)))
  assert original.name == 'flowers' and original.class_names == () and original.several_labels
  assert original.vocabulary is None and original.files == {}
  assert original.left_out == {'hidden image files': 1, 'hidden folders': 2}
  assert original.counts == {'train': 9, 'heldout': 1}
  assert found(original) == {
    'train': {name: (f'number {i}', 'two words') for i, name in enumerate(names[:9])},
    'heldout': {'test/deep/x.png': ('number 9', 'two words')}}
  assert [raw.name for raw in original.examples('train', 3, 5)] == ['train/3.webp', 'train/4.gif']
  for i, name in enumerate(names):
    with Image.open(io.BytesIO(raws(original)[name].image())) as image:
      assert abs(int(np.asarray(image.convert('RGB'))[5, 5, 0]) - 10 * i) < 6


def test_files_may_be_named_whole_and_accents_as_letters_of_their_own(tmp_path):
  root = write(tmp_path, ['train/e\u0301.jpg', 'val/b.jpg'])
  (root / 'captions.csv').write_text(f'file,caption\ntrain/\u00e9.jpg,A\n{root}/val/b.jpg,B\n')
  assert found(folder.open(root)) == {'train': {'train/\u00e9.jpg': ('A',)},
                                      'heldout': {'val/b.jpg': ('B',)}}


def many(root, numbers):
  return write(root, [f'{i}.bmp' for i in numbers], {f'{i}.txt': f'grey {i}' for i in numbers})


def test_split_by_hash_stays_when_images_are_added(tmp_path):
  first = found(folder.open(many(tmp_path, range(60))))
  for i in range(60):      # the rule again, from its description
    digest = hashlib.sha256(f'0/{i}.bmp'.encode()).hexdigest()
    assert (f'{i}.bmp' in first['heldout']) == (int(digest[:12], 16) / 16**12 < 0.1)
  assert 1 <= len(first['heldout']) <= 14
  more = found(folder.open(many(tmp_path, range(60, 90))))
  assert all(first[split].items() <= more[split].items() for split in first)
  assert found(folder.open(tmp_path, seed=1)) != more
  half = folder.open(tmp_path, heldout=0.5).counts
  assert sum(half.values()) == 90 and 25 <= half['heldout'] <= 65
  assert set(more['heldout']) <= set(found(folder.open(tmp_path, heldout=0.5))['heldout'])


def test_labels_of_folders(tmp_path):
  names = ['train/owl/a.jpg', 'train/cat/deep/b.jpg', 'val/cat/c.jpg']
  write(tmp_path, names, {name.replace('.jpg', '.txt'): 'x' for name in names})
  original = folder.open(tmp_path, labels='folders')
  assert original.class_names == ('cat', 'owl') and not original.several_labels
  assert [raws(original)[name].labels for name in names] == [(1,), (0,), (0,)]
  assert folder.open(tmp_path).class_names == ()


def test_a_class_may_be_called_like_a_split(tmp_path):
  names = [f'{kind}/{i}.jpg' for kind in ('bus', 'car', 'train') for i in range(40)]
  write(tmp_path, names, {name.replace('.jpg', '.txt'): 'x' for name in names})
  original = folder.open(tmp_path, labels='folders')
  assert original.class_names == ('bus', 'car', 'train')
  assert raws(original)['train/3.jpg'].labels == (2,)


def test_images_and_texts_in_trees_of_their_own_have_splits_and_classes(tmp_path):
  names = ['images/train/owl/a.jpg', 'images/train/cat/b.jpg', 'images/test/cat/c.jpg']
  write(tmp_path, names, {
      name.replace('images/', 'text/').replace('.jpg', '.txt'): 'x' for name in names})
  original = folder.open(tmp_path, labels='folders')
  assert original.class_names == ('cat', 'owl')
  assert list(found(original)['heldout']) == ['images/test/cat/c.jpg']


def test_mirror_images(tmp_path):
  in_splits(tmp_path)
  (tmp_path / 'train' / 'a.txt').write_text('a man\nHe is on the left.')
  for flip, expected in (('auto', (False, True)), ('never', (False, False)),
                         ('always', (True, True))):
    those = raws(folder.open(tmp_path, flip=flip, name='mine'))
    assert tuple(those[name].flippable for name in TWO) == expected
  assert folder.open(tmp_path, name='mine').name == 'mine'


def test_what_is_left_out_is_counted_and_named(tmp_path):
  in_splits(tmp_path, extra=['train/d.jpg', 'e.jpg', 'f.jpg', 'g.jpg'])
  (tmp_path / 'e.txt').write_text(' \n')
  original = folder.open(tmp_path)
  assert original.left_out == {'images without a caption (e.jpg, f.jpg, g.jpg, …)': 4}
  assert original.counts == {'train': 1, 'heldout': 1}
  (tmp_path / 'captions.csv').write_text('file,caption\ntrain/a.jpg,A\nval/b.jpg,B\ntrain/a.jpg,\n'
                                         'train/a.jpg,A\ne.jpg," "\n')
  original = folder.open(tmp_path)
  assert found(original)['train'] == {'train/a.jpg': ('A',)}
  assert original.left_out == {'captions without a word': 2, 'captions that an image has twice': 1,
                               'images without a caption (e.jpg, f.jpg, g.jpg, …)': 4}


def test_nothing_to_read(tmp_path):
  refused(tmp_path / 'none', 'is not a folder')
  (tmp_path / 'a.zip').write_bytes(b'')
  refused(tmp_path / 'a.zip', 'unpacked')
  refused(tmp_path, r'has no images, that is, files that end in \.jpg')
  write(tmp_path, ['b.jpg', 'a.jpg'])
  refused(tmp_path, r'2 images and no captions; .* such as a\.txt, .* captions\.csv')
  refused(tmp_path, 'there is no such file', captions='c.csv')


@pytest.mark.parametrize('options, words', [
  ({'labels': 'yes'}, 'column, folders, none'), ({'flip': 'no'}, 'auto, never, always'),
  ({'name': 'a/b'}, 'without slashes'), ({'name': ''}, 'without slashes'),
  ({'heldout': 0.0}, 'above 0 and below 1'), ({'heldout': 1.0}, 'above 0 and below 1')])
def test_options_that_are_wrong(tmp_path, options, words):
  refused(in_splits(tmp_path), words, **options)


def test_contradictions_of_the_folder(tmp_path):
  in_splits(tmp_path)
  write(tmp_path, ['stray.jpg'], {'stray.txt': 'C'})
  refused(tmp_path, r'stray\.jpg is in no known split, according to the folders')
  (tmp_path / 'stray.txt').unlink()
  write(tmp_path, ['train/c.png', 'train/c.jpg'])      # these have no captions to share
  assert found(folder.open(tmp_path)) == {'train': {'train/a.jpg': ('A',)},
                                          'heldout': {'val/b.jpg': ('B',)}}
  write(tmp_path, ['train/a.png'])
  refused(tmp_path, r'train/a\.png and train/a\.jpg would share the captions of a\.txt')

  (tmp_path / 'train' / 'a.png').unlink()
  write(tmp_path, [], {'captions.csv': HEAD, 'metadata.jsonl': ''})
  refused(tmp_path, r'several tables .* captions\.csv, metadata\.jsonl')
  (tmp_path / 'notes.docx').write_text('')
  refused(tmp_path, r'of an unknown kind; save it as one of \.csv', captions='notes.docx')


def test_a_text_file_is_found_however_its_accents_are_written(tmp_path):
  in_splits(tmp_path)
  write(tmp_path, ['train/caf\u00e9.png'], {'train/cafe\u0301.txt': 'C'})
  assert ('C',) in found(folder.open(tmp_path))['train'].values()


def test_a_table_is_found_however_the_accents_of_its_folder_are_written(tmp_path):
  for place in ('train/e\u0301te\u0301', 'val/hiver'):
    write(tmp_path, [f'{place}/a.jpg'])
    (tmp_path / place / 'captions.csv').write_text('file,caption\na.jpg,A\n')
  assert found(folder.open(tmp_path)) == {'train': {'train/\u00e9t\u00e9/a.jpg': ('A',)},
                                          'heldout': {'val/hiver/a.jpg': ('A',)}}


def test_the_name_of_a_set_of_the_package_is_refused(tmp_path):
  in_splits(tmp_path / 'emoji')
  refused(tmp_path / 'emoji', 'name=emoji: is a data set of the package')
  assert folder.open(tmp_path / 'emoji', name='my-emoji').name == 'my-emoji'


def test_a_few_images_may_all_fall_into_one_split(tmp_path):
  refused(many(tmp_path, [0]), 'heldout=1e-06 .* none of the 1 .*heldout', heldout=1e-6)


def test_a_broken_image_is_left_to_the_preparation(tmp_path):
  in_splits(tmp_path)
  path = tmp_path / 'train' / 'a.jpg'
  path.write_bytes(b'GIF89a')
  raw = raws(folder.open(tmp_path))['train/a.jpg']
  assert raw.image() == b'GIF89a' and isinstance(path, pathlib.Path)
  path.unlink()
  with pytest.raises(OSError):
    raw.image()


def test_text_files_in_a_tree_of_their_own_and_in_capitals(tmp_path):
  write(tmp_path, ['images/x/a.jpg', 'images/b.jpg', 'images/c.jpg'],
        {'text/x/a.txt': 'A', 'text/b.TXT': 'B', 'images/c.TXT': 'C'})
  assert {name: raw.captions for name, raw in raws(folder.open(tmp_path, heldout=0.5)).items()} == {
    'images/x/a.jpg': ('A',), 'images/b.jpg': ('B',), 'images/c.jpg': ('C',)}


def test_text_files_may_end_in_caption_and_in_letters_of_any_case(tmp_path):
  write(tmp_path, ['a.jpg', 'b.jpg', 'c.jpg', 'd.jpg'],
        {'a.caption': 'A', 'b.Txt': 'B', 'c.CAPTION': 'no', 'c.txt': 'C', 'd.caption': 'no',
         'd.TXT': 'D'})
  assert {name: raw.captions for name, raw in raws(folder.open(tmp_path, heldout=0.5)).items()} == {
    f'{x}.jpg': (x.upper(),) for x in 'abcd'}


def test_images_of_other_kinds_are_counted(tmp_path):
  in_splits(tmp_path)
  write(tmp_path, [], {'train/x.HEIC': '', 'val/y.avif': '', 'train/x.txt': 'X', 'val/y.txt': 'Y'})
  (what, count), = folder.open(tmp_path).left_out.items()
  assert count == 2 and 'not read' in what and '.heic' in what


def test_pipes_are_left_out_and_never_opened(tmp_path):
  in_splits(tmp_path)
  os.mkfifo(tmp_path / 'train' / 'pipe.png')
  assert folder.open(tmp_path).left_out == {'pipes and devices named like images': 1}


def test_linked_folders_are_read(tmp_path):
  write(tmp_path / 'elsewhere', ['a.jpg'], {'a.txt': 'A'})
  write(tmp_path / 'in', ['val/b.jpg'], {'val/b.txt': 'B'})
  (tmp_path / 'in' / 'train').symlink_to(tmp_path / 'elsewhere')
  assert found(folder.open(tmp_path / 'in')) == {'train': {'train/a.jpg': ('A',)},
                                                 'heldout': {'val/b.jpg': ('B',)}}
