"""The command lines of a page of the docs, and what is wrong with one of them.

`xmc` is parsed by its own parser and its config is read; scripts parse their flags and go no
further; those of launch/ tell what they would run. Words in capitals, such as RUN,
stand for what readers put in their place.
"""
import argparse
import contextlib
import importlib.util
import io
import os
import pathlib
import re
import runpy
import shlex
import subprocess
import sys
from unittest import mock

import packaging.requirements
import tiny

from xmc_jax.cli import config_file, parser
from xmc_jax.cli.main import _parser
from xmc_jax.encoders import registry
from xmc_jax.evals import extra_metrics, protocols
from xmc_jax.prepare import readers
from xmc_jax.pretrained import model
from xmc_jax.types import UserError

# Of other projects: what follows them is theirs to check.
ELSEWHERE = {'.', '.venv/bin/pre-commit', 'cd', 'curl', 'gcloud', 'jupyter', 'sha256sum',
             'tensorboard'}
# Files that a page lets its readers write; tests/new_method_test.py writes and runs them.
WRITTEN_BY_READERS = {'configs/small.py', 'configs/scl.py:small'}
OUR_FOLDERS = ('benchmarks/', 'configs/', 'docs/', 'examples/', 'launch/', 'tests/', 'tools/',
               'xmc_jax/')
# What a span such as `xmc train --check` leaves to its sentence, and a command line must not.
_INCOMPLETE = re.compile('required|expected (one|at least one) argument')
_FENCE = re.compile(r'^```(\w*)\n(.*?)^```$', re.M | re.S)
_COMMAND = re.compile(r'(xmc|make|python3?|pip|launch/\w+\.sh) |--config\.\w')


class Wrong(Exception):
  """A command line that would fail; the message says why."""


def blocks(text: str) -> list[tuple[int, str]]:
  """(line, text) of every block of a page in which some line is a command."""
  found = []
  for fence in _FENCE.finditer(text):
    if fence[1]:      # the block is of another language
      continue
    try:
      commands = split(fence[2])
    except ValueError:      # quotation marks of a text that is no command
      continue
    if any(_is_known(words) for words in commands):
      found.append((text.count('\n', 0, fence.start()) + 2, fence[2]))
  return found


def spans(text: str) -> list[tuple[int, str]]:
  """(line, text) of every `command` and `--config.KEY=VALUE` inside the sentences of a page."""
  prose = _FENCE.sub(lambda fence: '\n' * fence[0].count('\n'), text)
  return [(prose.count('\n', 0, span.start()) + 1, ' '.join(span[1].split()))
          for span in re.finditer(r'`([^`]+)`', prose) if _COMMAND.match(span[1])]


def split(block: str) -> list[list[str]]:
  """The words of every command, as a shell reads them; `$NAME` has the value it was given above."""
  block = re.sub(r'(^|\s)#.*', '', block.replace('\\\n', ' '))
  for name, value in re.findall(r"^([A-Z]+)='(.*)'$", block, re.M):
    block = block.replace(f'${name}', value)
  lexer = shlex.shlex(block, posix=True, punctuation_chars='&|;()\n')
  lexer.whitespace, lexer.whitespace_split, lexer.commenters = ' \t', True, ''
  commands = [[]]
  for word in lexer:
    if set(word) <= set('&|;()\n'):
      commands.append([])
    else:
      commands[-1].append(word)
  return [words for words in map(_without_prefix, commands) if words]


def _without_prefix(words: list[str]) -> list[str]:
  """A command without variables and without `taskset -c CORES` before it."""
  while words and re.match(r'[A-Z]+=', words[0]):
    words = words[1:]
  return words[3:] if words[:2] == ['taskset', '-c'] else words


def _is_known(words: list[str]) -> bool:
  return words[0] in ELSEWHERE or _check_of(words[0]) is not None


def check(words: list[str], whole: bool = True) -> None:
  """Raises Wrong if a command would fail; `whole` is False for a part of one in a sentence."""
  checks = _check_of(words[0])
  if checks:
    try:
      checks(words, whole)
    except UserError as error:
      raise Wrong(str(error)) from error
  elif words[0] not in ELSEWHERE:
    raise Wrong(f'{words[0]}: no program of this project')
  for word in words:
    _check_path(word.rpartition('=')[2].partition(':')[0], word)


def _check_of(program: str):
  name = pathlib.PurePath(program).name
  if program.startswith('--config.'):
    return _check_key
  if program.startswith('launch/'):
    return _check_launch
  return {'xmc': _check_xmc, 'make': _check_make, 'pip': _check_pip}.get(
      name, _check_python if re.fullmatch(r'python[\d.]*', name) else None)


def _is_placeholder(name: str) -> bool:
  return re.fullmatch(r'[A-Z][A-Z0-9_]*', name) is not None


def _check_path(path: str, word: str) -> None:
  """Wrong if `path` is in a folder of the repository and is not there."""
  named = path.startswith(OUR_FOLDERS) and not _is_placeholder(pathlib.PurePath(path).stem)
  if named and path not in WRITTEN_BY_READERS and not (tiny.ROOT / path).exists():
    raise Wrong(f'{word}: {path} is not in the repository')


def _check_xmc(words: list[str], whole: bool) -> None:
  words = words[1:]
  if words and _is_placeholder(words[0]):
    return
  if '...' in words:      # stands for the flags that every training has
    place = words.index('...')
    words[place:place + 1] = ['--config', 'demo', '--workdir', 'RUN']
  try:
    args = vars(_tell(_parser().parse_args, words))
  except Wrong as error:
    if whole or not _INCOMPLETE.search(str(error)):
      raise
    return
  _check_config(args.get('config'), args.get('overrides'))
  for name in args.get('metrics') or ():
    if name not in extra_metrics.EXTRA_METRICS:
      raise Wrong(f'--metrics={name}: no such metric')
  if args.get('protocol'):
    protocols.find(args['protocol'])
  if args.get('action') == 'get':
    for name in args['names']:
      registry.entry(name)
  named = args.get('model') or 'RUN'
  if not _is_placeholder(named.partition('|')[0]) and '/' not in named:
    model.load(named)
  if args.get('dataset'):
    readers.find(args['dataset'])
    for option in args['option']:
      if option.partition('=')[0] not in readers.options_of(args['dataset']):
        raise Wrong(f'--option {option}: {args["dataset"]} has no such option')


def _tell(parse, *arguments):
  """What `parse` returns; Wrong with what it writes to stderr if it leaves with an error."""
  errors = io.StringIO()
  try:
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
      return parse(*arguments)
  except SystemExit as leaving:
    if leaving.code:
      raise Wrong(errors.getvalue().strip() or str(leaving.code)) from leaving
    return argparse.Namespace()      # after --help


def _check_config(path: str | None, overrides: list[str] | None) -> None:
  """Wrong or UserError unless the config is there and takes the changes.

  Without a path, where the config is that of a run, one of the package's has to take them.
  """
  if path is None:
    for word in overrides or ():
      _check_key([word])
  elif path not in WRITTEN_BY_READERS and not _is_placeholder(pathlib.PurePath(path).stem):
    with contextlib.chdir(tiny.ROOT):
      config_file.load(path, overrides or ())


def _check_key(words: list[str], whole: bool = True) -> None:
  """Wrong unless one of the package's configs takes all the changes together."""
  words = [word if '=' in word else f'{word}=True' for word in words]
  for name, _ in config_file.shipped():
    with contextlib.suppress(UserError):
      return config_file.load(name.partition(':')[0], words)
  if words != ['--config.KEY=VALUE']:
    raise Wrong(f'{" ".join(words)}: no config of the package takes this')


def _check_make(words: list[str], whole: bool) -> None:
  targets = re.search(r'^\.PHONY: (.*)$', (tiny.ROOT / 'Makefile').read_text(), re.M)[1].split()
  for word in words[1:]:
    if '=' not in word and word not in targets:
      raise Wrong(f'make {word}: no such target')


def _check_pip(words: list[str], whole: bool) -> None:
  if words[1] != 'install':
    raise Wrong(f'pip {words[1]}: not a command that the docs need')
  own = parser.Parser(prog='pip install')
  own.add_argument('requirements', nargs='*')
  own.add_argument('--editable', '-e', action='append', default=[])
  own.add_argument('--constraint')
  own.add_argument('--no-deps', action='store_true')
  args = _tell(own.parse_args, words[2:])
  for word in [*args.requirements, *args.editable]:
    if word != '...' and not word.endswith('.whl'):
      _check_requirement(word, args.no_deps)


def _check_requirement(word: str, no_deps: bool) -> None:
  """Wrong if an extra does not exist, or if the Makefile pins another version."""
  try:
    needed = packaging.requirements.Requirement(re.sub(r'^\.', 'xmc_jax', word))
  except packaging.requirements.InvalidRequirement as error:
    raise Wrong(f'{word}: {error}') from error
  if needed.name == 'xmc_jax' and (unknown := needed.extras - _extras()):
    raise Wrong(f'{word}: no such extra: {", ".join(unknown)}')
  if no_deps and word not in (tiny.ROOT / 'Makefile').read_text():
    raise Wrong(f'{word}: the Makefile installs another version or none')


def _extras() -> set[str]:
  settings = (tiny.ROOT / 'setup.cfg').read_text()
  section = re.search(r'^\[options.extras_require\]\n(.*?)^\[', settings, re.M | re.S)[1]
  return set(re.findall(r'^(\w+) =', section, re.M))


def _check_python(words: list[str], whole: bool) -> None:
  if len(words) == 1:
    return
  script, flags = words[1], words[2:]
  if script == '-m':
    script, flags = f'{words[2].replace(".", "/")}.py', words[3:]
    if not script.startswith(OUR_FOLDERS):
      return _check_module(words[2])
  _check_path(script, script)
  if not (tiny.ROOT / script).is_file():
    raise Wrong(f'{script}: there is no such script')
  if whole or flags:
    _check_script(tiny.ROOT / script, flags)


def _check_module(name: str) -> None:
  try:
    there = importlib.util.find_spec(name)
  except ModuleNotFoundError:
    there = None
  if there is None:
    raise Wrong(f'python -m {name}: no such module')


class _Parsed(Exception):
  """The flags of a script have been parsed."""


def _check_script(path: pathlib.Path, flags: list[str]) -> None:
  """Runs a script until its flags are parsed."""
  parse = argparse.ArgumentParser.parse_known_args

  def parse_and_leave(self, args=None, namespace=None):
    raise _Parsed(*parse(self, args, namespace))

  with (mock.patch.object(argparse.ArgumentParser, 'parse_known_args', parse_and_leave),
        mock.patch.object(sys, 'argv', [str(path), *flags]),
        mock.patch.object(sys, 'path', [str(path.parent), *sys.path]),
        mock.patch.dict(os.environ)):
    try:
      _tell(lambda: runpy.run_path(str(path), run_name='__main__'))
    except _Parsed as parsed:
      args, rest = parsed.args
    else:
      raise Wrong(f'{path.name} takes no flags')
  if unknown := [word for word in rest if not word.startswith('--config.')]:
    raise Wrong(f'{path.name}: {unknown[0]}: no such flag')
  _check_config(getattr(args, 'config', None), rest)


def _check_launch(words: list[str], whole: bool) -> None:
  """Lets a script of launch/ tell what it would run, and parses the flags of its training."""
  _check_path(words[0], words[0])
  place = words.index('--') if '--' in words else len(words)
  if not whole:
    return
  done = subprocess.run([words[0], *words[1:place], '--dry-run', *words[place:]], cwd=tiny.ROOT,
                        capture_output=True, text=True)
  if done.returncode:
    raise Wrong(done.stderr.strip())
  _check_xmc(['xmc', 'train', *words[place + 1:]], whole)
