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


def test_packed_lists_are_the_lists():
  rows = [['a', 'zwei Hähne 🐓'], [], ['', 'b'], ['c']]
  texts = pickle.loads(pickle.dumps(Texts(rows)))
  assert len(texts) == 4 and [list(texts[i]) for i in range(4)] == rows
  numbers = Numbers([[3, 1], [], [-1]])
  assert [numbers[i] for i in range(3)] == [[3, 1], [], [-1]]
  assert len(Texts([])) == 0
