"""The --config flag: a Python file with get_config(), and changes of single keys after it.

`demo`, or `configs/demo.py` where there is no such file, is the one that comes with the package.

What follows a colon, as in `configs/xmc_gan_ablation.py:sentence`, is given to get_config().
"""
from __future__ import annotations

import pathlib
import re
import runpy
import traceback
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

from xmc_jax.types import UserError

# In a checkout a link to the folder configs/.
_CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'
_GIVE = 'give a Python file with get_config(), or the name of a config of the package, such as demo'
_OVERRIDE = re.compile(r'--?(?:no)?config\.([^=]+)=?(.*)')


def define(values: flags.FlagValues, argv: Sequence[str]) -> None:
  """Adds --config, and --config.KEY for the keys of the file that `argv` names."""
  config_flags.DEFINE_config_file('config', None, 'Python file with get_config().',
                                  flag_values=values, sys_argv=list(argv))
  values['config'].parser = _ConfigFile(argv)


def load(path: str) -> ConfigDict:
  """The config that `--config PATH` gives."""
  return _ConfigFile([]).parse(path)


def one_line(error: Exception) -> str:
  """What an error says, in one line; of a locked config's not all its other keys."""
  text = str(error.args[0] if error.args else error)
  if 'Other fields present' in text:         # a locked ConfigDict tells all of itself, quoted
    text = text.partition(' Other fields present')[0].lstrip("'")
  return ' '.join(text.split())


class _ConfigFile(flags.ArgumentParser):
  """From the path of a config file to what its get_config() returns, locked."""

  def __init__(self, argv: Sequence[str]):
    self._overrides = [found.groups() for found in map(_OVERRIDE.match, argv) if found]

  def parse(self, path: str) -> ConfigDict:
    config = self._load(path)
    for name, text in self._overrides:
      _admit_option(config, name, text)
      node = config
      for key in name.split('.'):
        if not isinstance(node, ConfigDict) or key not in node:
          known = f'; there are {", ".join(node)}' if isinstance(node, ConfigDict) and node else ''
          raise UserError(f'--config.{name}: the config has no key {key!r} there{known}')
        node = node[key]
    return config.lock()

  def _load(self, path: str) -> ConfigDict:
    path, colon, argument = path.partition(':')
    path = _of_the_package(path)
    try:
      names = runpy.run_path(path)
      config = names['get_config'](*[argument] * len(colon)) if 'get_config' in names else None
    except OSError as error:
      raise UserError(f'--config: {path} cannot be read ({error.strerror}); {_GIVE}') from error
    except Exception as error:     # a file of the user's may raise anything
      lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
               if frame.filename == path] or [getattr(error, 'lineno', '?')]
      raise UserError(f'--config: {path}, line {lines[-1]}: {type(error).__name__}: '
                      f'{one_line(error)}') from error
    if not isinstance(config, ConfigDict):
      raise UserError(f'--config: {path} has no get_config() that returns a config; {_GIVE}')
    return config


def _of_the_package(path: str) -> str:
  """The path of the config of the package that `path` names; `path` itself if it names none."""
  name = pathlib.PurePath(path).stem
  inside = _CONFIGS / f'{name}.py'
  named = path in (name, f'configs/{name}.py') and not pathlib.Path(path).is_file()
  return str(inside) if named and inside.is_file() else path


def _admit_option(config: ConfigDict, name: str, text: str) -> None:
  """Lets the command line give an option of the data set that the file has not: number or text."""
  parent, _, key = name.rpartition('.')
  options = config.get('data', {}).get('options') if parent == 'data.options' else None
  if options is not None and key not in options:
    with options.unlocked():
      options[key] = config_dict.placeholder(int if re.fullmatch(r'-?\d+', text) else str)
