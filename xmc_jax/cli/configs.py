"""List the configs that come with the package, with one line on each.

  xmc configs
  xmc train --config demo --workdir runs/demo

--config takes these names anywhere; :WORD behind a name is to be replaced by a word of your choice.
`xmc describe --config NAME` tells the sizes and costs of one.
"""


def add_parser(commands):
  return commands.add_parser('configs', help='list the configs that come with the package')


def run(args):
  from xmc_jax.cli import config_file
  for name, summary in config_file.shipped():
    print(f'{name:<28}{summary}')
  print('\n`xmc train --config NAME --workdir WORKDIR` trains one; `xmc describe --config NAME` '
        'tells its sizes.')
