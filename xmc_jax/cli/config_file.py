"""Reads --config FILE[:ARG] and the changes of single keys after it, --config.KEY=VALUE.

FILE may also be the name of a config that comes with the package, such as `demo`.
"""
from __future__ import annotations

import ast
import json
import pathlib
import re
import runpy
import traceback
from collections.abc import Sequence

from absl import flags
from etils import epath
from ml_collections import ConfigDict, config_dict, config_flags

from xmc_jax import config as defaults
from xmc_jax import methods
from xmc_jax.cli.parser import did_you_mean
from xmc_jax.types import UserError
from xmc_jax.utils import regular

# In a checkout, a link to the folder configs/.
_CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'
_GIVE = ('give a Python file with get_config(), or the name of a config of the package, such as '
         'demo; `xmc configs` lists them')
_OVERRIDE = re.compile(r'--(?:no)?config\.([^=]+)=?(.*)')


def load(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
  """The config that FILE's get_config() returns, changed, checked and locked.

  Args:
    path: FILE or a name, or FILE:ARG to call get_config(ARG).
    overrides: words of the command line such as '--config.seed=1'.
  Raises:
    UserError: the file fails, a key does not exist, or a value has the wrong type or is invalid.
  """
  return change(_read(path), overrides)


def load_saved(workdir: str, overrides: Sequence[str] = ()) -> ConfigDict:
  """The config of the run in `workdir`, changed, checked and locked; UserError as in `load`."""
  path = epath.Path(workdir).expanduser() / 'config.json'
  try:
    regular.check(path)
    saved = json.loads(path.read_text())
    if not isinstance(saved, dict):
      raise ValueError('it is no object')
  except FileNotFoundError as error:
    there = (path.parent / 'checkpoints').exists()
    raise UserError(f'--workdir={workdir}: ' + (
        'its config.json is missing; give the --config of the run' if there else
        'there is no run to resume; give --config to begin one')) from error
  except (OSError, ValueError) as error:
    why = getattr(error, 'strerror', None) or _one_line(error)
    raise UserError(f'{path} cannot be read ({why}); give the --config of the run'
                    ) from error
  return change(methods.complete(_from_json(saved), path), overrides)


def _from_json(saved: dict) -> ConfigDict:
  """A config from JSON, which has no tuples."""
  config = ConfigDict()
  for key, value in saved.items():
    config[key] = (_from_json(value) if isinstance(value, dict) else
                   tuple(value) if isinstance(value, list) else value)
  return config.lock()


def shipped() -> list[tuple[str, str]]:
  """(name, first line of its docstring) of every config of the package; none of them is run.

  A name whose get_config takes an argument is followed by that, in capitals: 'scl:NAME'.
  """
  found = []
  for path in sorted(_CONFIGS.glob('*.py')):
    tree = ast.parse(path.read_text(encoding='utf-8'))
    for made in tree.body:
      if isinstance(made, ast.FunctionDef) and made.name == 'get_config':
        argument = ''.join(f':{word.arg.upper()}' for word in made.args.args)
        found.append((path.stem + argument, (ast.get_docstring(tree) or '').partition('\n')[0]))
  return found


def change(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
  """`config` with the values of the command line, checked and locked."""
  last = {}                # of one key, the last value counts
  for word in _joined(overrides):
    found = _OVERRIDE.match(word)
    if found:
      _check_key(config, *found.groups())
    last[found[1] if found else word] = word
  none = {name for name, word in last.items() if word == f'--config.{name}=None'}
  if always := sorted(none - methods.nullable(config) if none else ()):
    raise UserError(f'--config.{always[0]}=None: this key always has a value; leave it out for the '
                    "config's own")
  config.update_from_flattened_dict(dict.fromkeys(none))
  overrides = [word for name, word in last.items() if name not in none]      # no None for absl
  values = flags.FlagValues()
  try:
    config_flags.DEFINE_config_dict('config', config, flag_values=values,
                                    sys_argv=overrides)
    words = values(['xmc', *overrides])[1:]
    defaults.check(values.config)
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
    raise UserError(_one_line(error)) from error
  if words:
    raise UserError(f'{words[0]!r} is not a flag; flags begin with --')
  return values.config


def _joined(words: Sequence[str]) -> list[str]:
  """The words with `--config.KEY VALUE` as one, `--config.KEY=VALUE`."""
  found: list[str] = []
  for word in words:
    last = found[-1] if found else ''
    if last.startswith('--config.') and '=' not in last and not word.startswith('--'):
      found[-1] = f'{last}={word}'
    else:
      found.append(word)
  return found


def _read(path: str) -> ConfigDict:
  head, last_colon, last = path.rpartition(':')      # a path may have colons of its own
  if pathlib.Path(path).is_file():
    colon = argument = ''
  elif pathlib.Path(head).is_file():
    path, colon, argument = head, last_colon, last
  else:
    path, colon, argument = path.partition(':')
  path = _find(path)
  try:
    names = runpy.run_path(path)
    config = names['get_config'](*[argument] * len(colon)) if 'get_config' in names else None
  except OSError as error:
    raise UserError(f'--config: {path} cannot be read ({error.strerror}); {_GIVE}') from error
  except (Exception, SystemExit) as error:     # the user's code may raise anything
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
             if frame.filename == path] or [getattr(error, 'lineno', '?')]
    raise UserError(f'--config: {path}, line {lines[-1]}: {type(error).__name__}: '
                    f'{_one_line(error)}') from error
  if not isinstance(config, ConfigDict):
    raise UserError(f'--config: {path} has no get_config() that returns a config; {_GIVE}')
  return config


def _find(path: str) -> str:
  """The package's config if `path` is its name or, outside a checkout, configs/NAME.py."""
  name = pathlib.PurePath(path).stem
  inside = _CONFIGS / f'{name}.py'
  named = path in (name, f'configs/{name}.py') and not pathlib.Path(path).is_file()
  return str(inside) if named and inside.is_file() else path


def _check_key(config: ConfigDict, name: str, text: str) -> None:
  """UserError unless the config has the key; a new option of the data set is added first."""
  parent, _, option = name.rpartition('.')
  options = config.get('data', {}).get('options') if parent == 'data.options' else None
  if options is not None and option not in options:
    with options.unlocked():     # which options there are, only the data set knows
      # A folder may be 2014, and 007 is no number.
      number = option != 'folder' and re.fullmatch(r'-?(0|[1-9]\d*)', text)
      options[option] = config_dict.placeholder(int if number else str)
  node = config
  for key in name.split('.'):
    if not isinstance(node, ConfigDict) or key not in node:
      known = list(node) if isinstance(node, ConfigDict) else []
      hint = did_you_mean(key, known) or (known and f'choose one of {", ".join(known)}')
      raise UserError(f'--config.{name}: the config has no key {key!r} there'
                      f'{f"; {hint}" if hint else ""}')
    parent, node = node, node[key]
  if isinstance(node, ConfigDict) and name != 'data.options':
    raise UserError(f'--config.{name}: is a section; give its keys one by one, '
                    f'--config.{name}.KEY=VALUE')
  if node is None and parent.get_type(key) is type(None):      # JSON does not keep its type
    parent[key] = config_dict.placeholder(int if re.fullmatch(r'-?\d+', text) else str)


def _one_line(error: Exception) -> str:
  """The message of an error in one line."""
  text = str(error.args[0] if error.args else error)
  if 'Other fields present' in text:         # a locked ConfigDict quotes all of itself
    text = text.partition(' Other fields present')[0].lstrip("'")
  return ' '.join(text.split())
