"""The field's words: none of the old ones, and one meaning for every class name."""
import ast
import collections
import re

import pytest
import tiny

OLD = re.compile(r'\b(critic|alike_[a-z]+|play|meters|slope|ruler|towers|retell|peers|wire)\b')
PACKAGE = tiny.ROOT / 'xmc_jax'
# Every method has these, each in its own file of `networks/`.
PER_METHOD = {'Generator', 'Discriminator', 'UpBlock', 'DownBlock'}


def texts():
  """The files that people read: code, configs and docs, but not the data or the glossary."""
  paths = [*PACKAGE.rglob('*.py'), *(tiny.ROOT / 'docs').rglob('*.md'), tiny.ROOT / 'README.md']
  return [path for path in paths if path.name != 'glossary.md']


def old_words(text):
  return [word for line in text.splitlines() for word in OLD.findall(line)]


def test_old_words_are_gone():
  found = {str(path.relative_to(tiny.ROOT)): old_words(path.read_text()) for path in texts()}
  assert len(found) > 150 and {name: words for name, words in found.items() if words} == {}


@pytest.mark.parametrize(
  'text, words',
  [
    ('the critic and the towers', ['critic', 'towers']),
    ('alike_pairs=1', ['alike_pairs']),
    ('display, parameters, wireless', []),
  ],
)
def test_an_old_word_is_seen(text, words):
  assert old_words(text) == words


def test_a_class_name_has_one_meaning():
  places = collections.defaultdict(set)
  for path in PACKAGE.rglob('*.py'):
    for node in ast.parse(path.read_text()).body:
      if isinstance(node, ast.ClassDef):
        places[node.name].add(path.relative_to(PACKAGE).as_posix())
  several = {name: found for name, found in places.items() if len(found) > 1}
  assert several.keys() == PER_METHOD
  assert all(place.startswith('networks/') for found in several.values() for place in found)
