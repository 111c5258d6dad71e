"""Captions of original files, and the lists that keep them."""
import pickle

import pytest

from xmc_jax.prepare import captions
from xmc_jax.prepare.packed import Numbers, Texts


@pytest.mark.parametrize('text, keeps', [
    ('a dog on the left', False), ('Right-handed network', False), ('two cakes left over', False),
    ('LEFTMOST door', False), ('left, a car', False), ('bright colours', True),
    ('leftover pizza', True), ('a cleft rock', True), ('an upright piano', True)])
def test_captions_with_sides_are_not_true_of_the_mirror_image(text, keeps):
  assert captions.may_flip([text]) is keeps
  assert captions.may_flip(['a dog', text]) is keeps


def test_captions_stand_on_one_line():
  assert captions.clean(' a\ndog\r\n\t near\u00a0it. ') == 'a dog near it.'
  assert captions.clean(' \n ') == ''
  assert captions.clean('a \u202ered\u2066 apple\u061c') == 'a red apple'


def test_packed_lists_are_the_lists():
  rows = [['a', 'zwei Hähne 🐓'], [], ['', 'b'], ['c']]
  texts = pickle.loads(pickle.dumps(Texts(rows)))
  assert len(texts) == 4 and [list(texts[i]) for i in range(4)] == rows
  numbers = Numbers([[3, 1], [], [-1]])
  assert [numbers[i] for i in range(3)] == [[3, 1], [], [-1]]
  assert len(Texts([])) == 0


@pytest.mark.parametrize('text, right', [
  ('salt &amp; pepper &quot;mill&quot;', 'salt & pepper "mill"'), ('&amp;lt;3', '<3'),
  ('R&D; R&reg', 'R&D; R&reg'), ('caf&#233; &#x41;', 'café A'), ('a\0dog\x1b\x85b', 'a dog b'),
  ('a\ud800b', 'a b'), ('a\u2028b', 'a b'), ('a\u200bb', 'a b'),
  ('\ufeffa c\xadat\u200e', 'a cat'), ('👨\u200d👩', '👨\u200d👩')])
def test_entities_and_control_signs(text, right):
  assert captions.clean(text) == right


@pytest.mark.parametrize('text, lost', [
  ('красное яблоко', True), ('a red 苹果', True), ('a café, naïve', False), ('a dog ☃', False),
  ('🍎🍎', True), ('...', True), ('12', False)])
def test_words_that_a_vocabulary_loses(text, lost):
  assert captions.loses_words(text) == lost
