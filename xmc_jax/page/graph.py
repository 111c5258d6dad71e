"""A generator with its text encoder as one ONNX graph, with weights in as few bits as they have."""
from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np

from xmc_jax import methods
from xmc_jax.sampling import TextToImage, for_sampling
from xmc_jax.types import Array, UserError
from xmc_jax.utils.optional import extra

if TYPE_CHECKING:
  import onnx

INPUTS, OUTPUT = ('tokens', 'mask', 'z'), 'image'
# Primitives that call a traced function, and which parameter it is.
_CALLS = {'jit': 'jaxpr', 'custom_jvp_call': 'call_jaxpr', 'custom_vjp_call': 'call_jaxpr'}
PIP = 'pip install --no-deps jax2onnx==0.17.1'
_SMALL = 64             # numbers; below, fewer bits would save nothing
_HUGE = 1e30            # such as what masks a place; no weight, and 127 times a scale may overflow
_INT8_ERROR = 1e-4      # of one of 127 levels: what rounding to float32 may have changed


def drawing(model: TextToImage, text_encoder: str) -> Callable[[Array, Array, Array], Array]:
  """(tokens int32 [1, t], mask bool [1, t], z float32 [1, z]) -> image float32 [h, w, 3] in [0, 1].

  The arithmetic is float32 whatever the config says, since few browsers know bfloat16.

  text_encoder: the folder of the model's, in Hugging Face's layout.
  """
  config = for_sampling(model.config, text_encoder)
  if 'dtype' in config.model:
    config.model.dtype = 'float32'
  sample, tree = methods.build(config).sample, jax.device_get(model.tree)
  assert sample, 'this method draws no images'
  return lambda tokens, mask, z: sample(
      tree['params'], tree['stats'], tree['frozen'], {'tokens': tokens, 'mask': mask}, z)[0]


def convert(draw: Callable[[Array, Array, Array], Array], length: int, z_features: int
            ) -> onnx.ModelProto:
  """`draw` as an ONNX graph with inputs `INPUTS` of one caption and the output `OUTPUT`.

  Args:
    draw: see `drawing`.
    length: t, tokens of a caption.
    z_features: of the noise.
  Raises:
    UserError: a package is missing, or jax2onnx does not know an operation of the network.
  """
  with extra('page', '--page'):
    import onnx  # noqa: F401
    import onnx_ir
    from onnx_ir.passes.common import DeduplicateHashedInitializersPass
  try:
    import jax2onnx
  except ModuleNotFoundError as error:
    raise UserError(f'--page: jax2onnx is not installed; run `{PIP}` (with its dependencies, pip '
                    'would take an orbax that is too old)') from error
  shapes = [jax.ShapeDtypeStruct((1, length), jnp.int32),
            jax.ShapeDtypeStruct((1, length), jnp.bool_),
            jax.ShapeDtypeStruct((1, z_features), jnp.float32)]
  # As primitive operations: jax2onnx has rules of its own for larger ones, such as
  # jax.image.resize, and these rules have gaps; that of jit fails with JAX 0.12.
  traced = jax.make_jaxpr(draw)(*shapes)
  primitives = lambda *inputs: _evaluated(traced, inputs)[0]
  with _quiet():
    try:
      made = jax2onnx.to_onnx(primitives, shapes, model_name='xmc_jax', input_names=INPUTS,
                              output_names=[OUTPUT])
    except NotImplementedError as error:
      raise UserError(f'--page: jax2onnx cannot convert this generator ({error}); `xmc demo` draws '
                      'with it in Python') from error
  # A network that is used twice, such as a text encoder, is written twice.
  whole = onnx_ir.from_proto(made)
  DeduplicateHashedInitializersPass()(whole)
  return onnx_ir.to_proto(whole)


def _evaluated(traced: jax.extend.core.ClosedJaxpr, inputs: Sequence[Array]) -> list[Array]:
  """The outputs of a traced function, with the functions that it calls written out."""
  jaxpr = traced.jaxpr
  values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*traced.consts, *inputs), strict=True))
  of = lambda x: x.val if isinstance(x, jax.extend.core.Literal) else values[x]
  for eqn in jaxpr.eqns:
    found = [of(x) for x in eqn.invars]
    if eqn.primitive.name in _CALLS:
      found = _evaluated(eqn.params[_CALLS[eqn.primitive.name]], found)
    else:
      found = eqn.primitive.bind(*found, **eqn.primitive.get_bind_params(eqn.params))
      found = found if eqn.primitive.multiple_results else [found]
    values.update(zip(eqn.outvars, found, strict=True))
  return [of(x) for x in jaxpr.outvars]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Without what jax2onnx says of optional packages that it lacks, and of its own casts."""
  loggers = [logging.getLogger(name) for name in ('jax2onnx', 'onnx_ir')]
  levels = [logger.level for logger in loggers]
  for logger in loggers:
    logger.setLevel(logging.ERROR)
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      yield
  finally:
    for logger, level in zip(loggers, levels):
      logger.setLevel(level)


def compact(model: onnx.ModelProto) -> None:
  """Stores the weights in as few bits as hold them, in place.

  A matrix that has at most 255 values a row or column, as `weight_files.int8` writes them, becomes
  int8 with its scales, and one that half precision holds exactly becomes float16; a Cast, and for
  int8 a Mul, in front make it float32. The runtime does that once, when it loads the graph.
  """
  from onnx import TensorProto, helper, numpy_helper
  graph, nodes = model.graph, []
  constants = {tensor.name: tensor for tensor in graph.initializer}
  for name, tensor in constants.items():
    x = numpy_helper.to_array(tensor)
    if x.dtype != np.float32 or x.size < _SMALL:
      continue
    stored, scale = _fewest_bits(x)
    if stored.dtype == np.float32:
      continue
    graph.initializer.remove(tensor)
    graph.initializer.append(numpy_helper.from_array(stored, f'{name}_stored'))
    cast = name if scale is None else f'{name}_cast'
    nodes.append(helper.make_node('Cast', [f'{name}_stored'], [cast], to=TensorProto.FLOAT))
    if scale is not None:
      graph.initializer.append(numpy_helper.from_array(scale, f'{name}_scale'))
      nodes.append(helper.make_node('Mul', [cast, f'{name}_scale'], [name]))
  for node in reversed(nodes):
    graph.node.insert(0, node)


def _fewest_bits(x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
  """A float32 tensor as int8 and its scales, as float16, or as it is."""
  for axis in range(x.ndim if x.ndim > 1 else 0):
    others = tuple(other for other in range(x.ndim) if other != axis)
    scale = np.abs(x).max(axis=others, keepdims=True) / np.float32(127)
    if scale.size == x.size or not scale.max() < _HUGE:
      continue
    levels = x / np.where(scale, scale, 1)
    if np.abs(levels - np.round(levels)).max() < _INT8_ERROR:
      return np.round(levels).astype(np.int8), scale
  with np.errstate(over='ignore'):
    half = x.astype(np.float16)
  return (half if np.array_equal(half.astype(np.float32), x) else x), None
