"""The table of data sets, and options from the command line."""
import importlib
import inspect
import sys

import pytest
import toy_original

from xmc_jax.data.source import PREPARED
from xmc_jax.prepare import readers
from xmc_jax.prepare.images import CODECS
from xmc_jax.types import UserError


@pytest.fixture(autouse=True)
def toy(monkeypatch):
  monkeypatch.setitem(readers.DATASETS, 'toy', readers.Dataset(
      'toy', 'a toy', 'https://toy.example'))
  monkeypatch.setitem(sys.modules, 'xmc_jax.prepare.toy', toy_original)


@pytest.mark.parametrize('name', readers.DATASETS)
def test_every_data_set_has_a_reader(name):
  dataset = readers.DATASETS[name]
  reader = importlib.import_module(f'xmc_jax.prepare.{dataset.module}').open
  assert next(iter(inspect.signature(reader).parameters)) == 'source'
  assert dataset.codec in CODECS and dataset.published.startswith('https://') or name == 'folder'
  for option in readers.options_of(name).values():
    assert option.default is not inspect.Parameter.empty


def test_every_set_that_a_config_can_name_can_be_prepared():
  assert set(PREPARED) <= set(readers.DATASETS)


@pytest.mark.parametrize('options, values', [
    ([], {}), (['broken=true'], {'broken': True}), (['broken=no'], {'broken': False}),
    (['slow=0.5', 'only=3'], {'slow': 0.5, 'only': 3}), (['share=1e-3'], {'share': 0.001}),
    (['parts=a, b'], {'parts': ('a', 'b')}), (['word=3'], {'word': '3'}),
    (['word=a=b'], {'word': 'a=b'})])
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
    ('toy', '.', ['only=x'], "--option=only=x: 'x' is no value of only; by default it is 0"),
    ('toy', '.', ['broken=maybe'], "'maybe' is no value of broken")])
def test_what_is_refused(name, source, options, words):
  with pytest.raises(UserError, match=words):
    readers.open(name, source, options)
