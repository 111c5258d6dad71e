"""Text-to-image GANs with contrastive learning, in JAX.

  model = xmc_jax.load('emoji64')                # a model of the package, a folder, a run, ORG/NAME
  model('a red apple', num_images=4).images      # for Pillow; `.arrays` for numpy
  xmc_jax.train('demo', 'runs/demo'); xmc_jax.evaluate('runs/demo')

`load`, `train`, `evaluate` and `compare` import JAX when they are first used.
"""
import importlib

__version__ = '0.1.0'
_FUNCTIONS = {'load': 'pretrained.model', 'train': 'api', 'evaluate': 'evaluator',
              'compare': 'evaluator'}
__all__ = ['__version__', *_FUNCTIONS]      # noqa: PLE0604


def __getattr__(name: str):
  if name not in _FUNCTIONS:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(f'{__name__}.{_FUNCTIONS[name]}'), name)


def __dir__() -> list[str]:
  return [*globals(), *_FUNCTIONS]
