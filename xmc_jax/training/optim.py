"""The optimizers, one per network."""
from __future__ import annotations

import math
from collections.abc import Mapping, Set
from typing import Any

import jax
import optax

from xmc_jax.types import UserError


def make_optimizers(spec: Mapping[str, Mapping[str, Any]]
                    ) -> dict[str, optax.GradientTransformation]:
  """`{network: Adam}` from `{network: {'lr': ..., 'b1': ..., 'b2': ...}}`.

  Optional keys of a network, where an update is a change of its parameters (a step of XMC-GAN
  updates the discriminator twice):
    warmup  n: the learning rate rises linearly over the first n updates
    decay   {'rate': ..., 'every': ..., 'least': ...}: the learning rate is multiplied by `rate`
            after every `every` updates, until it is at most `least`
    clip    {'norm': ..., 'of': ...}: the gradients of the top-level parameters `of` are clipped to
            this global norm
  Other keys are ignored here; `check_keys` refuses them.
  """
  return {network: _adam(p) for network, p in spec.items()}


def check_keys(spec: Mapping[str, Mapping[str, Any]]) -> None:
  """UserError for keys that `make_optimizers` does not know, or one of these that is incomplete."""
  for network, p in spec.items():
    flag = f'--config.optim.{network}'
    _check(p, flag, {'lr', 'b1', 'b2'}, {'warmup', 'decay', 'clip'})
    if 'decay' in p:
      _check(p['decay'], f'{flag}.decay', {'rate', 'every', 'least'})
    if 'clip' in p:
      _check(p['clip'], f'{flag}.clip', {'norm', 'of'})


def _check(given: Mapping[str, Any], flag: str, needed: Set[str],
           optional: Set[str] = frozenset()) -> None:
  for key in sorted(set(given) - needed - optional):
    raise UserError(f'{flag}.{key}: it is unknown; the keys are '
                    f'{", ".join(sorted(needed | optional))}')
  for key in sorted(needed - set(given)):
    raise UserError(f'{flag}: the key {key} is missing')


def _adam(p: Mapping[str, Any]) -> optax.GradientTransformation:
  adam = optax.adam(_rate(p), b1=p['b1'], b2=p['b2'])
  return optax.chain(_clipped(**p['clip']), adam) if 'clip' in p else adam


def _rate(p: Mapping[str, Any]) -> float | optax.Schedule:
  rate = _decayed(p['lr'], **p['decay']) if 'decay' in p and p['lr'] else p['lr']
  if not p.get('warmup'):
    return rate
  part = optax.linear_schedule(1 / p['warmup'], 1, p['warmup'] - 1)
  return lambda count: part(count) * (rate(count) if callable(rate) else rate)


def _decayed(lr: float, rate: float, every: int, least: float) -> optax.Schedule:
  # The tolerance is for numbers of times that rounding puts just above a whole one.
  times = max(0, math.ceil(math.log(least / lr) / math.log(rate) - 1e-9))
  return lambda count: lr * rate ** jax.numpy.minimum(count // every, times)


def _clipped(norm: float, of: str) -> optax.GradientTransformation:
  """Clips the parameters under the key `of` to the global norm `norm`; others are unchanged."""
  def clipped(params):
    if of not in params:
      raise UserError(f'--config.optim: clip.of={of} names no part of the network; choose one of '
                      f'{", ".join(params)}')
    return {k: jax.tree.map(lambda _: k == of, v) for k, v in params.items()}
  return optax.masked(optax.clip_by_global_norm(norm), clipped)
