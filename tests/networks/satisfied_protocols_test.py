"""Every networks class has the methods of the protocols that it claims, parameter by parameter."""
import importlib
import inspect
import pkgutil
from typing import Protocol

import pytest

from xmc_jax import networks
from xmc_jax.networks import base

PROTOCOLS = {name: x for name, x in vars(base).items()
             if isinstance(x, type) and getattr(x, '_is_protocol', False) and x is not Protocol}
MODULES = [importlib.import_module(f'{networks.__name__}.{module.name}')
           for module in pkgutil.iter_modules(networks.__path__)]
CLASSES = {name: x for module in MODULES for name, x in vars(module).items()
           if name.endswith('Networks') and inspect.isclass(x) and name not in PROTOCOLS}


def own_methods(x):
  """{name: parameters} of the public methods that a class itself defines."""
  return {name: list(inspect.signature(f).parameters) for name, f in vars(x).items()
          if inspect.isfunction(f) and not name.startswith('_')}


def required(x):
  """The same of all protocols that a class claims."""
  return {name: parameters for protocol in x.__mro__ if protocol in PROTOCOLS.values()
          for name, parameters in own_methods(protocol).items()}


def missing(x):
  """What a class lacks of its protocols. A stub inherited from a protocol is no implementation."""
  have = {name: parameters for parent in reversed(x.__mro__) if parent not in PROTOCOLS.values()
          for name, parameters in own_methods(parent).items()}
  return {name: parameters for name, parameters in required(x).items()
          if have.get(name) != parameters}


def test_the_classes_are_found():
  assert set(CLASSES) == {'ClipNetworks', 'DamsmNetworks', 'GalipNetworks', 'OneStageNetworks',
                          'StackedNetworks', 'SwiftNetworks', 'XmcNetworks'}
  assert set(PROTOCOLS) == {'Networks', 'GeneratorNetworks', 'Forward', 'SplitForward'}


@pytest.mark.parametrize('name', CLASSES)
def test_networks_satisfy_the_protocols_that_they_claim(name):
  claimed = CLASSES[name].__mro__
  assert base.Forward in claimed or base.SplitForward in claimed
  assert 'init' in required(CLASSES[name]) and missing(CLASSES[name]) == {}


def test_networks_that_draw_images_can_be_sampled():
  drawing = {name for name, x in CLASSES.items() if base.GeneratorNetworks in x.__mro__}
  assert drawing == set(CLASSES) - {'ClipNetworks', 'DamsmNetworks'}


class Wrong(base.Forward):
  def init(self, rng):
    pass


def test_missing_methods_and_other_parameters_are_seen():
  assert missing(Wrong) == {'init': ['self', 'rng', 'batch'], 'forward': [
      'self', 'params', 'stats', 'frozen', 'batch', 'rngs']}
