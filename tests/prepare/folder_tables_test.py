"""Images of one's own with their captions in tables: kinds, columns, places, mistakes."""
import os
import pathlib

import pytest
from folder_files import HEAD, TWO, found, in_splits, raws, refused, write

from xmc_jax.prepare import folder
from xmc_jax.types import UserError

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


def test_absolute_paths_of_a_table_may_go_through_a_link(tmp_path):
  write(tmp_path / 'real', ['a.jpg', 'b.jpg'])
  link = tmp_path / 'link'
  link.symlink_to('real')
  for way in (link, tmp_path / 'real'):
    (tmp_path / 'real' / 'captions.csv').write_text(
        f'file,caption,split\n{way}/a.jpg,A,train\n{way}/b.jpg,B,heldout\n')
    assert found(folder.open(link)) == {'train': {'a.jpg': ('A',)}, 'heldout': {'b.jpg': ('B',)}}


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


@pytest.mark.parametrize('name', ['train/metadata.parquet', 'captions.xlsx', 'x/captions.json'])
def test_a_table_of_a_kind_that_is_not_read_is_named(tmp_path, name):
  write(tmp_path, ['train/a.jpg', 'x/b.jpg'], {name: 'PAR1'})
  refused(tmp_path, rf'no captions in files that are read \({tmp_path}/{name} is not\)')
