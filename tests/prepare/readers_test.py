"""The table of data sets, and options from the command line."""
import importlib
import inspect

import package_files
import pytest

from xmc_jax.data.source import PREPARED
from xmc_jax.prepare import readers
from xmc_jax.prepare.images import CODECS
from xmc_jax.types import UserError


@pytest.fixture(autouse=True)
def toy(monkeypatch):
  monkeypatch.setitem(readers.DATASETS, 'toy', readers.Dataset(
      'toy_original', 'a toy', 'https://toy.example'))


@pytest.mark.parametrize('name', readers.DATASETS)
def test_every_data_set_has_a_reader(name):
  dataset = readers.DATASETS[name]
  reader = importlib.import_module(dataset.module).open
  assert next(iter(inspect.signature(reader).parameters)) == 'source'
  assert dataset.codec in CODECS and dataset.published.startswith('https://') or name == 'folder'
  for option in readers.options_of(name).values():
    assert option.default is not inspect.Parameter.empty


def test_a_reader_is_found_by_its_import_path(tmp_path):
  stamps = {f'./usr/share/tuxpaint/stamps/a/{i}.{kind}':
            package_files.image((9, 9, 9), (8, 8)) if kind == 'png' else f'Thing {i}.'.encode()
            for i in range(40) for kind in ('png', 'txt')}
  package_files.deb(tmp_path / 'tuxpaint-stamps-default_1_all.deb', stamps)
  original, found = readers.open('tuxpaint.reader', str(tmp_path))
  assert original.name == 'tuxpaint' and sum(original.counts.values()) == 40 and found == {}
  dataset = readers.find('tuxpaint.reader')
  assert (dataset.module, dataset.size, dataset.codec) == ('tuxpaint.reader', 128, 'png')
  assert readers.find('emoji_styles.reader').size == 64


def test_a_reader_without_defaults_of_its_own(tmp_path, monkeypatch):
  (tmp_path / 'mine').mkdir()
  (tmp_path / 'mine' / 'toys.py').write_text('from toy_original import open\n')
  monkeypatch.syspath_prepend(str(tmp_path))
  original, found = readers.open('mine.toys', str(tmp_path), ['word=b'])
  assert original.name == 'toy' and found == {'word': 'b'}
  assert readers.find('mine.toys').size == 256


@pytest.mark.parametrize('name, words', [
    ('no.such.module', 'no.such.module cannot be imported .*PYTHONPATH'),
    ('xmc_jax.types', r'xmc_jax.types has no function open\(source')])
def test_import_paths_that_are_refused(name, words):
  with pytest.raises(UserError, match=words):
    readers.find(name)


def test_every_set_that_a_config_can_name_can_be_prepared():
  assert set(PREPARED) <= set(readers.DATASETS)


@pytest.mark.parametrize('options, values', [
    ([], {}), (['broken=true'], {'broken': True}), (['broken=no'], {'broken': False}),
    (['slow=0.5', 'only=3'], {'slow': 0.5, 'only': 3}), (['share=1e-3'], {'share': 0.001}),
    (['parts=a, b'], {'parts': ('a', 'b')}), (['word=3'], {'word': '3'}),
    (['word=a=b'], {'word': 'a=b'}), (['table=a/b.csv'], {'table': 'a/b.csv'})])      # for JSON
def test_options_have_the_types_of_the_reader(tmp_path, options, values):
  original, found = readers.open('toy', str(tmp_path), options)
  assert found == values and original.name == 'toy'
  assert {key: type(value) for key, value in found.items()} == {
      key: type(value) for key, value in values.items()}


@pytest.mark.parametrize('name, source, options, words', [
    ('cifar', '.', [], "the data set 'cifar' is unknown; choose one of coco2014, "),
    ('toy', 'no/such', [], '--source=no/such: there is no such folder; .* at https://toy.example'),
    ('toy', '.', ['colour=red'], r'--option=colour=red: the data set toy takes KEY=VALUE of these: '
     r'broken \(default: False\), slow \(default: 0.0\)'),
    ('toy', '.', ['broken'], '--option=broken: the data set toy takes KEY=VALUE'),
    ('toy', '.', ['only=x'], "--option=only=x: 'x' is not a valid only; the default is 0"),
    ('toy', '.', ['broken=maybe'], "'maybe' is not a valid broken")])
def test_what_is_refused(name, source, options, words):
  with pytest.raises(UserError, match=words):
    readers.open(name, source, options)
