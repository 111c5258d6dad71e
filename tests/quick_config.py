"""The config of `toy_methods.quick`."""
from toy_methods import quick


def get_config():
  return quick.config()
