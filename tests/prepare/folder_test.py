"""Images of one's own: text files, tables, splits, labels, and the mistakes of a beginner."""
import hashlib
import io
import os
import pathlib
import pickle

import numpy as np
import pytest
from PIL import Image

from xmc_jax.prepare import folder
from xmc_jax.types import UserError

KINDS = {'.jpg': 'JPEG', '.jpeg': 'JPEG', '.png': 'PNG', '.webp': 'WEBP', '.gif': 'GIF',
         '.bmp': 'BMP', '.tif': 'TIFF', '.tiff': 'TIFF'}


def write(root, names, texts=None):
  """Images of 12 x 10 px of one grey each, and text files."""
  for number, name in enumerate(names):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.full((10, 12, 3), 10 * number % 256, np.uint8))
    image.save(path, KINDS[path.suffix.lower()])
  for name, text in (texts or {}).items():
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
  return root


def found(original):
  """{split: {name: captions}}."""
  return {split: {raw.name: raw.captions for raw in original.examples(split, 0, count)}
          for split, count in original.counts.items()}


def raws(original):
  """{name: OriginalExample} of both splits."""
  return {raw.name: raw for split, count in original.counts.items()
          for raw in original.examples(split, 0, count)}


def refused(source, words, **options):
  with pytest.raises(UserError, match=words) as error:
    folder.open(source, **options)
  assert '\n' not in str(error.value)


TWO = {'train/a.jpg': 'A', 'val/b.jpg': 'B'}      # the shortest set with both splits


def in_splits(root, extra=()):
  """Two images in train/ and val/, with captions A and B."""
  return write(root, [*TWO, *extra], {f'{name[:-4]}.txt': text for name, text in TWO.items()})


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


TABLES = {
  'captions.csv': 'image,id,caption,split\r\nx.jpg,1,"a dog, big",train\r\n'
                  './x.jpg,2,"it ""barks""",train\r\nsub/y.png,3,caf\u00e9,test\r\n',
  'captions.tsv': 'File\tCaption\tSplit\nx.jpg\ta dog, big\ttrain\nx.jpg\tit "barks"\ttrain\n\n'
                  '"sub/y.png"\t"caf\u00e9"\tval\n',
  'metadata.jsonl': '{"file_name": "x.jpg", "text": ["a dog, big", "it \\"barks\\""], '
                    '"split": "train"}\n'
                    '{"file_name": "sub\\\\y.png", "text": "caf\\u00e9", "split": "heldout"}\n'}


@pytest.mark.parametrize('name', TABLES)
def test_tables(tmp_path, name):
  root = write(tmp_path, ['x.jpg', 'sub/y.png'], {name: TABLES[name], 'x.txt': 'not this one'})
  original = folder.open(root)
  assert found(original) == {'train': {'x.jpg': ('a dog, big', 'it "barks"')},
                             'heldout': {'sub/y.png': ('caf\u00e9',)}}
  assert original.files == {name: str(root / name)} and original.left_out == {}


def test_columns_of_one_name_are_refused(tmp_path):
  root = write(tmp_path, ['x.jpg'], {'captions.csv': 'file,caption,Caption\nx.jpg,a dog,a cat\n'})
  with pytest.raises(UserError, match="captions.csv: two columns are named 'caption'"):
    folder.open(root)


def test_names_of_another_encoding_are_read_and_told(tmp_path):
  root = write(tmp_path / 'set', ['train/a.jpg', 'val/b.jpg'],
               {'train/a.txt': 'a dog', 'val/b.txt': 'a cat'})
  for suffix in ('jpg', 'txt'):
    os.rename(root / f'train/a.{suffix}', os.fsencode(root) + b'/train/caf\xe9.' + suffix.encode())
  assert found(folder.open(root)) == {'train': {'train/caf\\xe9.jpg': ('a dog',)},
                                      'heldout': {'val/b.jpg': ('a cat',)}}


@pytest.mark.parametrize('name', ['Flickr8k.token.txt', 'results.token'])
def test_flickrs_token_files(tmp_path, name):
  write(tmp_path / 'images', ['train/1.jpg', 'val/2.jpg'])
  (tmp_path / name).write_text('train/1.jpg#0\tA child .\ntrain/1.jpg#1\tA girl #1 .\n'
                               'val/2.jpg#0\tTwo dogs .\n')
  original = folder.open(tmp_path / 'images', captions=str(tmp_path / name))
  assert found(original) == {'train': {'train/1.jpg': ('A child .', 'A girl #1 .')},
                             'heldout': {'val/2.jpg': ('Two dogs .',)}}


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


def test_labels_of_a_table(tmp_path):
  write(tmp_path, ['a.jpg', 'b.jpg', 'c.jpg'], {
    'captions.csv': 'file,caption,label,split\na.jpg,A,owl,train\nb.jpg,B,cat,train\n'
                    'a.jpg,AA,,train\nc.jpg,C,owl,val\n',
    'several.tsv': 'file\tcaption\tlabels\tsplit\na.jpg\tA\towl; cat;owl\ttrain\n'
                   'b.jpg\tB\t\ttrain\nc.jpg\tC\t7\tval\n',
    'lines.jsonl': '{"file": "a.jpg", "caption": "A", "labels": ["x", 3], "split": "train"}\n'
                   '{"file": "b.jpg", "caption": "B", "split": "val"}\n'})
  one = folder.open(tmp_path)
  assert one.class_names == ('cat', 'owl') and not one.several_labels
  assert {name: raw.labels for name, raw in raws(one).items()} == {
    'a.jpg': (1,), 'b.jpg': (0,), 'c.jpg': (1,)}
  several = folder.open(tmp_path, captions='several.tsv')
  assert several.class_names == ('7', 'cat', 'owl') and several.several_labels
  assert {name: raw.labels for name, raw in raws(several).items()} == {
    'a.jpg': (1, 2), 'b.jpg': (), 'c.jpg': (0,)}
  (tmp_path / 'empty.csv').write_text('file,caption,label,labels,split\na.jpg,A,owl,,train\n   \n'
                                      'b.jpg,B,cat,,train\nc.jpg,C,owl,,val\n')
  empty = folder.open(tmp_path, captions='empty.csv')       # a column without a word is none
  assert empty.class_names == one.class_names and not empty.several_labels
  lines = folder.open(tmp_path, captions='lines.jsonl')
  assert lines.class_names == ('3', 'x') and raws(lines)['a.jpg'].labels == (0, 1)
  none = folder.open(tmp_path, labels='none')
  assert none.class_names == () and raws(none)['a.jpg'].labels == ()
  refused(tmp_path, 'without a label, 3 in all', labels='folders')


def test_labels_of_folders(tmp_path):
  names = ['train/owl/a.jpg', 'train/cat/deep/b.jpg', 'val/cat/c.jpg']
  write(tmp_path, names, {name.replace('.jpg', '.txt'): 'x' for name in names})
  original = folder.open(tmp_path, labels='folders')
  assert original.class_names == ('cat', 'owl') and not original.several_labels
  assert [raws(original)[name].labels for name in names] == [(1,), (0,), (0,)]
  assert folder.open(tmp_path).class_names == ()


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


HEAD = 'file,caption\n'


@pytest.mark.parametrize('name, text, words', [
  ('captions.csv', 'file,heading\na.jpg,A\n', r'line 2 has no column for the caption: call '
   r'it caption \(or captions, text, title\); its columns are file, heading'),
  ('captions.csv', 'caption,name\nA,a.jpg\n', 'no column for the file .* are caption, name'),
  ('captions.csv', HEAD + 'a.jpg,a dog, big\n', r'line 2 has 3 cells .* has 2 \(file; caption\); '
   'put a caption that contains a comma'),
  ('captions.csv', HEAD + 'a.jpg,"a dog\nb.jpg,B\n', 'unexpected end of data.*quotes'),
  ('captions.csv', HEAD + 'a.jpg,A\nB.JPG,B\nc.jpg,C\nc.jpg,D\n',
   r'names images that are not in .*, 2 in all, first B\.JPG on line 3; is sub/b\.jpg meant'),
  ('captions.csv', HEAD + '../a.jpg,A\n', r'1 in all, first \.\./a\.jpg .*is a\.jpg meant'),
  ('captions.csv', HEAD + 'zebra.jpg,A\n', 'add the files, or remove these lines'),
  ('captions.csv', HEAD + ',A\n', 'line 2 names no image'),
  ('captions.csv', HEAD + 'a.jpg,\n', 'has no caption'),
  ('captions.csv', '', 'has no caption'),
  ('captions.csv', HEAD.encode() + b'a.jpg,caf\xe9\n',
   r'captions\.csv, line 2: byte 0xe9 is not UTF-8'),
  ('captions.csv', HEAD.encode('utf-16'), 'not UTF-8'),
  ('captions.csv', 'file,caption,split\na.jpg,A,train\nsub/b.jpg,B,later\n',
   r'sub/b\.jpg is in no known split.*\(later\).* train, heldout, val'),
  ('captions.csv', 'file,caption,split\na.jpg,A,train\nsub/b.jpg,B,\n',
   'b.jpg is in no known split'),
  ('captions.csv', 'file,caption,split\na.jpg,A,train\n', 'none of the 1 .* in the heldout split'),
  ('captions.csv', 'file,caption,split\na.jpg,A,train\na.jpg,B,val\n',
   "line 3: a.jpg has the split 'val', and 'train'"),
  ('captions.csv', 'file,caption,split,label\na.jpg,A,train,x\nsub/b.jpg,B,val,\n',
   'without a label, 1 in all, first sub/b.jpg'),
  ('captions.csv', 'file,caption,split,label,labels\na.jpg,A,train,x,\nsub/b.jpg,B,val,,y\n',
   'a.jpg has a label, and others have labels; use one'),
  ('captions.tsv', 'file\tcaption\na.jpg\tA\tB\n', 'line 2 has 3 cells.*exactly one tab'),
  ('captions.jsonl', '{"file": "a.jpg", "caption": "A"\n', 'line 1 is not JSON'),
  ('captions.jsonl', '\n["a.jpg", "A"]\n', 'line 2 is not an object'),
  ('captions.jsonl', '{"file": "a.jpg", "caption": 1.5}\n', 'the caption 1.5, which is not text'),
  ('captions.jsonl', '{"file": {"bytes": ""}, "caption": "A"}\n', 'which is not text'),
  ('captions.jsonl', '{"file": "a.jpg", "caption": "A", "labels": 3}\n', 'write a list of names'),
  ('captions.jsonl', '{}\n', 'its columns are none'),
  ('captions.token', 'a.jpg A\n', 'line 1 is not a line of a token file'),
  ('a.txt', b'\xff\xfea\x00', r'a\.txt, line 1: byte 0xff is not UTF-8')])
def test_tables_with_mistakes(tmp_path, name, text, words):
  refused(write(tmp_path, ['a.jpg', 'sub/b.jpg'], {name: text}), words)


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


def test_absolute_paths_of_a_table_may_go_through_a_link(tmp_path):
  write(tmp_path / 'real', ['a.jpg', 'b.jpg'])
  link = tmp_path / 'link'
  link.symlink_to('real')
  for way in (link, tmp_path / 'real'):
    (tmp_path / 'real' / 'captions.csv').write_text(
        f'file,caption,split\n{way}/a.jpg,A,train\n{way}/b.jpg,B,heldout\n')
    assert found(folder.open(link)) == {'train': {'a.jpg': ('A',)}, 'heldout': {'b.jpg': ('B',)}}


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


@pytest.mark.parametrize('separator', [',', ';', '\t'])
@pytest.mark.parametrize('heading', [('file', 'caption'), ('filepath', 'title')])
def test_separators_and_names_of_columns(tmp_path, separator, heading):
  in_splits(tmp_path)
  rows = [heading, ('train/a.jpg', 'C'), ('val/b.jpg', 'D')]
  (tmp_path / 'captions.csv').write_text('\n'.join(map(separator.join, rows)))
  assert found(folder.open(tmp_path)) == {'train': {'train/a.jpg': ('C',)},
                                          'heldout': {'val/b.jpg': ('D',)}}


@pytest.mark.parametrize('head', ['', 'train/'])
def test_a_table_in_each_folder(tmp_path, head):
  write(tmp_path, TWO)
  line = '{"file_name": "%s", "text": "%s"}\n'
  (tmp_path / 'train' / 'metadata.jsonl').write_text(line % (f'{head}a.jpg', 'A'))
  (tmp_path / 'val' / 'metadata.jsonl').write_text(line % ('b.jpg', 'B'))
  original = folder.open(tmp_path)
  assert found(original) == {'train': {'train/a.jpg': ('A',)}, 'heldout': {'val/b.jpg': ('B',)}}
  assert set(original.files) == {'train/metadata.jsonl', 'val/metadata.jsonl'}


def test_a_table_is_of_its_folder_however_its_path_is_written(tmp_path, monkeypatch):
  write(tmp_path / 'in', ['a.jpg', 'b.jpg', 'sub/a.jpg', 'sub/b.jpg'])
  (tmp_path / 'in' / 'sub' / 'list.csv').write_text(
      'file,caption,split\na.jpg,A,train\nb.jpg,B,val\n')
  (tmp_path / 'link').symlink_to(tmp_path / 'in')
  monkeypatch.chdir(tmp_path)
  for source, table in (('in', 'sub/list.csv'), ('in', 'in/sub/list.csv'),
                        ('in', str(tmp_path / 'in/sub/list.csv')), ('link', 'in/sub/list.csv'),
                        (str(tmp_path / 'in'), 'link/sub/list.csv')):
    original = folder.open(pathlib.Path(source), captions=table)
    assert found(original) == {'train': {'sub/a.jpg': ('A',)}, 'heldout': {'sub/b.jpg': ('B',)}}


def test_a_table_in_one_of_the_folders_names_what_it_lacks(tmp_path):
  write(tmp_path, ['train/a.jpg', 'train/b.jpg', 'train/c.jpg', 'val/b.jpg'])
  table = 'file,caption,split\na.jpg,A,train\nb.jpg,B,val\n'
  (tmp_path / 'train' / 'metadata.csv').write_text(table)
  original = folder.open(tmp_path)
  assert found(original) == {'train': {'train/a.jpg': ('A',)}, 'heldout': {'train/b.jpg': ('B',)}}
  assert original.left_out == {'images without a caption (train/c.jpg, val/b.jpg)': 2}


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


@pytest.mark.parametrize('name', ['train/metadata.parquet', 'captions.xlsx', 'x/captions.json'])
def test_a_table_of_a_kind_that_is_not_read_is_named(tmp_path, name):
  write(tmp_path, ['train/a.jpg', 'x/b.jpg'], {name: 'PAR1'})
  refused(tmp_path, rf'no captions in files that are read \({tmp_path}/{name} is not\)')


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
