"""The first 50 steps of any other config, to see on new hardware before the clock runs for days.

The config that it shortens follows the colon; the data, the weights and the step are those of the
run itself:

  xmc train --config configs/smoke.py:xmc_gan_coco256 --workdir runs/smoke_xmc_gan_coco256

docs/launching.md says which images/s and which first losses to expect on 8 GPUs and on a v5e-16.
"""
import pathlib
import runpy

CONFIGS = pathlib.Path(__file__).parent
STEPS = 50


def get_config(name='xmc_gan_coco256'):
  base, _, row = name.partition(':')
  path = CONFIGS / f'{base}.py'
  if base == 'smoke' or not path.exists():
    raise ValueError(f'configs/smoke.py:{base}: no such config to shorten; name another file in '
                     'configs/, for instance xmc_gan_coco128')
  config = runpy.run_path(str(path))['get_config'](*filter(None, [row]))
  with config.unlocked():
    config.steps = STEPS
    config.every.report = 5
    config.every.save = config.every.images = STEPS
    config.evals.every = 0
  return config
