"""The implementations of operations. All implementations of one operation are the same function.

They differ in arithmetic and memory, and which one is the fastest depends on the machine. `AUTO`
holds what measurements have shown (docs/performance.md). Tests compare all of them with the
reference implementations, which are written as in the papers.
"""
from __future__ import annotations

import dataclasses

from xmc_jax.types import UserError


@dataclasses.dataclass(frozen=True)
class Impl:
  """The name of an implementation for each operation that has several.

  up: nearest-neighbor doubling, then a 3x3 convolution ('reference'); one transposed 4x4
    convolution ('spread'); four 2x2 convolutions of the small map, with a gradient that is not a
    dilated convolution either ('parity').
  pool: a 3x3 convolution, then 2x2 average pooling ('reference'); one 4x4 convolution with stride
    two ('strided'); the same with a gradient by four 2x2 convolutions ('parity').
  shortcut: the 1x1 convolution of a residual block at the larger size ('reference') or at the
    smaller ('small').
  modulation: a local gamma and beta at the size of the map ('reference') or of the condition
    ('small').
  norm: the gradient of a modulated normalization by automatic differentiation ('reference') or by
    sums over the pixels of the condition ('folded').
  words: word-region scores with a context vector per pair ('reference') or by a Gram matrix
    ('gram').
  """
  up: str = 'parity'
  pool: str = 'parity'
  shortcut: str = 'small'
  modulation: str = 'small'
  norm: str = 'folded'
  words: str = 'gram'


CHOICES = {'up': ('reference', 'spread', 'parity'), 'pool': ('reference', 'strided', 'parity'),
           'shortcut': ('reference', 'small'), 'modulation': ('reference', 'small'),
           'norm': ('reference', 'folded'), 'words': ('reference', 'gram')}
FAST = Impl()
REFERENCE = Impl(*6 * ['reference'])
# Measured on CPUs, the convolutions one by one; elsewhere the choice is the least arithmetic.
AUTO = {'cpu': FAST, 'gpu': FAST, 'tpu': FAST}


def choose(name: str, backend: str) -> Impl:
  """The implementations named by `model.impl`: 'auto', 'fast' or 'reference'.

  backend: such as 'cpu'. Changes of single operations may follow the name: 'auto,up=reference'.
  Raises UserError for a name that does not exist.
  """
  known = {'auto': AUTO.get(backend, FAST), 'fast': FAST, 'reference': REFERENCE}
  first, *rest = name.split(',')
  if first not in known:
    raise UserError(f'--config.model.impl={name}: {first!r} is unknown; begin with one of '
                    f'{", ".join(known)}')
  changes = dict(item.partition('=')[::2] for item in rest)
  for operation, choice in changes.items():
    if operation not in CHOICES or choice not in CHOICES[operation]:
      raise UserError(f'--config.model.impl={name}: {operation}={choice} does not exist; choose '
                      'from ' + '; '.join(f'{k}={"|".join(v)}' for k, v in CHOICES.items()))
  return dataclasses.replace(known[first], **changes)
