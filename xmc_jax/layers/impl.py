"""Which form of an operation runs. All impl of one operation are the same function.

A form saves arithmetic or memory; which of them is the fastest depends on the machine. `AUTO` holds
what measurements have shown (docs/performance.md); tests compare every form with the plain one.
"""
from __future__ import annotations

import dataclasses

from xmc_jax.types import UserError


@dataclasses.dataclass(frozen=True)
class Impl:
  """One name for each operation that has several impl.

  up: nearest-neighbour doubling, then a 3x3 convolution ('reference'); one 4x4 convolution of the
  map
    spread with zeros ('spread'); four 2x2 convolutions of the small map, with a gradient that has
    no spread maps either ('parity').
  pool: 3x3 convolution, then 2x2 average pooling ('reference'); one 4x4 convolution of stride two
    ('strided'); the same with a gradient by four 2x2 convolutions ('parity').
  shortcut: a residual block's 1x1 convolution on its larger side ('reference') or its smaller
    ('small').
  modulation: a local gamma and beta at the size of the map ('reference') or of the condition
  ('small').
  norm: the gradient of a modulated normalisation as differentiation gives it ('reference') or by
  sums
    over the condition's pixels ('folded').
  words: word-region scores with a context vector for each pair ('reference') or by a Gram matrix
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
# Measured on CPUs only, and the convolutions one by one. The others have the least arithmetic.
AUTO = {'cpu': FAST, 'gpu': FAST, 'tpu': FAST}


def choose(name: str, backend: str) -> Impl:
  """The impl of `model.impl` = 'auto', 'fast' or 'reference' on a backend such as 'cpu'.

  Single ones may follow: 'auto,up=reference'. UserError for a name that does not exist.
  """
  known = {'auto': AUTO.get(backend, FAST), 'fast': FAST, 'reference': REFERENCE}
  first, *rest = name.split(',')
  if first not in known:
    raise UserError(f'model.impl = {name!r} begins with {first!r}; begin with one of '
                    f'{", ".join(known)}')
  changes = dict(item.partition('=')[::2] for item in rest)
  for operation, form in changes.items():
    if operation not in CHOICES or form not in CHOICES[operation]:
      raise UserError(f'model.impl = {name!r}: {operation}={form} does not exist; there are '
                      + '; '.join(f'{k}={"|".join(v)}' for k, v in CHOICES.items()))
  return dataclasses.replace(known[first], **changes)
