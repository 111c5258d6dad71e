"""Options of data sets have the types that their functions declare."""
import pathlib
import sys
import types
from collections.abc import Sequence

import pytest

from xmc_jax.data import options
from xmc_jax.data import source as sources
from xmc_jax.types import UserError


@pytest.mark.parametrize('value, kind, wanted', [
    ('3', int, 3), (3, int, 3), ('1e-3', float, 0.001), (2, float, 2.0), (7, str, '7'),
    ('yes', bool, True), (0, bool, False), (None, str | None, None), ('a', str | None, 'a'),
    ('a, b', tuple[str, ...], ('a', 'b')), (['a'], Sequence[str] | None, ('a',)),
    (3, Sequence[str], ('3',)), ('a/b', pathlib.Path, pathlib.Path('a/b')),
    ([1], dict, [1])])
def test_values(value, kind, wanted):
  found = options.convert(value, kind)
  assert found == wanted and type(found) is type(wanted)


@pytest.mark.parametrize('value, kind, words', [
    ('x', int, 'a whole number'), (3.5, int, 'a whole number'), (True, int, 'a whole number'),
    ('x', float, 'a number'), ('perhaps', bool, 'true or false'), (None, str, 'a word'),
    (('a',), str, 'a word'), ({}, Sequence[str] | None, 'words separated by commas')])
def test_values_that_are_none(value, kind, words):
  with pytest.raises(ValueError, match=f'^{words}$'):
    options.convert(value, kind)


@pytest.mark.parametrize('name, given, words', [
    ('emoji_scenes', {'examples': 'many'}, r'--config.data.options.examples=many: the data set '
     "'emoji_scenes' takes a whole number there"),
    ('emoji_scenes', {'examples': 0}, '--config.data.options: the scenes need examples >= 1'),
    ('emoji', {'groups': 5}, "--config.data.options.groups: the emoji have no group '5'"),
    ('emoji', {'groups': {}}, '--config.data.options.groups={}: .* words separated by commas'),
    ('records', {'crop': ('a',)}, '--config.data.options.crop=.*: .* a word there'),
    ('coco2014', {'shuffle': 1}, "'coco2014' does not take these options: .*'shuffle'")])
def test_a_set_that_is_given_a_wrong_option(name, given, words):
  with pytest.raises(UserError, match=words):
    sources.load(name, 'train', 32, **given)


def test_words_with_commas_are_groups():
  two, one = (sources.load('emoji', 'heldout', 32, groups=groups)
              for groups in ('food-drink,flags', ('flags',)))
  assert len(two) > len(one) > 0


def test_a_module_of_ones_own_may_have_any_annotations(monkeypatch):
  def load(split, size, kind: 'Nowhere' = 1, **more):      # noqa: F821
    return split, size, kind, more
  monkeypatch.setitem(sys.modules, 'my.set', types.SimpleNamespace(load=load))
  assert sources.load('my.set', 'train', 32, kind=(2,), x=3) == ('train', 32, (2,), {'x': 3})
