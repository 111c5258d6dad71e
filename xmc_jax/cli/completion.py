"""Print a script with which a shell completes the commands and flags of xmc.

  xmc completion bash > ~/.local/share/bash-completion/completions/xmc
  xmc completion zsh > "${fpath[1]}/_xmc"
  xmc completion tcsh > ~/.xmc.tcsh; echo 'source ~/.xmc.tcsh' >> ~/.tcshrc

A shell that is started afterwards knows them. Names of configs and paths are completed too.
"""
from __future__ import annotations

# Flags whose values are paths have these in their help.
_FOLDERS = ('FOLDER', 'RUN', 'WORKDIR')
_FILES = ('FILE',)


def add_parser(commands):
  parser = commands.add_parser('completion', help='print the completion script of a shell')
  parser.add_argument('shell', choices=('bash', 'zsh', 'tcsh'), help='bash, zsh or tcsh')
  return parser


def run(args):
  import shtab

  from xmc_jax.cli import config_file
  names = [name.partition(':')[0] for name, _ in config_file.shipped()]
  commands = next(action for action in args.root._actions if isinstance(action.choices, dict))
  for parser in (args.root, *commands.choices.values()):
    for action in parser._actions:
      metavar = str(action.metavar)
      if action.dest == 'config':
        action.complete = {'bash': '_xmc_configs', 'zsh': '_xmc_configs'}
      elif metavar in _FOLDERS:
        action.complete = shtab.DIRECTORY
      elif metavar in _FILES:
        action.complete = shtab.FILE
  words = ' '.join(dict.fromkeys(names))
  print(shtab.complete(args.root, args.shell, preamble={
      'bash': f'_xmc_configs() {{ compgen -W "{words}" -- "$1"; compgen -f -- "$1"; }}',
      'zsh': f'_xmc_configs() {{ compadd {words}; _files; }}'}))
