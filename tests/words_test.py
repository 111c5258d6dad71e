"""One name, one meaning: no class name twice, and none of the words that this project gave up."""
import ast
import collections
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = sorted((ROOT / 'xmc_jax').rglob('*.py'))
# Data embedded in the package may say what it likes: captions and names of things. The glossary
# lists the old words beside the new ones.
EXEMPT = {ROOT / 'docs/glossary.md'}
EMBEDDED = ROOT / 'xmc_jax/data/embedded'
TEXTS = [path for path in [
    *SOURCES, *sorted((ROOT / 'configs').glob('*.py')), ROOT / 'README.md',
    *sorted((ROOT / 'docs').rglob('*.md'))] if path not in EXEMPT]

OLD_WORDS = r'critic|alike_[a-z]+|play|meters|slope|ruler|towers|retell|peers|wire'


def names_of_classes(tree):
  """All classes of a module, those inside functions and other classes too."""
  return [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def documented_or_coded(path):
  """(line number, text) of a file; of modules with embedded data, without their long constants."""
  lines = list(enumerate(path.read_text().splitlines(), 1))
  if EMBEDDED not in path.parents:
    return lines
  data = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Assign | ast.AnnAssign):
      data |= set(range(node.lineno, node.end_lineno + 1))
  return [(number, line) for number, line in lines if number not in data]


def old_words(lines):
  """'number: word' of every old word."""
  return [f'{number}: {word}' for number, line in lines
          for word in re.findall(rf'\b({OLD_WORDS})\b', line)]


def test_no_class_name_is_defined_twice():
  where = collections.defaultdict(list)
  for path in SOURCES:
    for name in names_of_classes(ast.parse(path.read_text())):
      where[name].append(path.relative_to(ROOT).as_posix())
  assert {name: paths for name, paths in where.items() if len(paths) > 1} == {}


@pytest.mark.parametrize('path', TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_old_words_are_gone(path):
  assert old_words(documented_or_coded(path)) == []


def test_classes_and_old_words_are_seen():
  assert names_of_classes(ast.parse('class A:\n  class B: pass\ndef f():\n  class A: pass')) == [
      'A', 'B', 'A']
  assert old_words([(3, 'The critic can play.'), (4, 'criticism, display, alike_fakes')]) == [
      '3: critic', '3: play', '4: alike_fakes']
