"""The optimizers, one per network: Adam, and Muon for the kernels of some."""
from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Set
from typing import Any

import jax
import optax
from optax import contrib

from xmc_jax.types import Tree, UserError

# The length of Muon's update of a kernel at a learning rate, as a share of the length of Adam's
# longest (Liu et al., arXiv 2502.16982).
MUON_LENGTH = 0.2


def make_optimizers(spec: Mapping[str, Mapping[str, Any]]
                    ) -> dict[str, optax.GradientTransformation]:
  """`{network: optimizer}` from `{network: {'lr': ..., 'b1': ..., 'b2': ...}}`: Adam.

  Optional keys of a network, where an update is a change of its parameters (a step of XMC-GAN
  updates the discriminator twice):
    warmup  n: the learning rate rises linearly over the first n updates
    decay   {'rate': ..., 'every': ..., 'least': ...}: the learning rate is multiplied by `rate`
            after every `every` updates, until it is at most `least`
    clip    {'norm': ..., 'of': ...}: the gradients of the top-level parameters `of` are clipped to
            this global norm
    muon    momentum of Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon), which
            then updates the kernels of dense layers and 2D convolutions; Adam updates the other
            parameters. 0: Adam updates all
    adam    names of modules whose kernels Adam updates nevertheless
  Other keys are ignored here; `check_keys` refuses them.
  """
  return {network: _optimizer(p) for network, p in spec.items()}


def check_keys(spec: Mapping[str, Mapping[str, Any]]) -> None:
  """UserError for keys that `make_optimizers` does not know, or one of these that is incomplete."""
  for network, p in spec.items():
    flag = f'--config.optim.{network}'
    _check(p, flag, {'lr', 'b1', 'b2'}, {'warmup', 'decay', 'clip', 'muon', 'adam'})
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


def _optimizer(p: Mapping[str, Any]) -> optax.GradientTransformation:
  if not p.get('muon'):
    optimizer = optax.adam(_rate(p), b1=p['b1'], b2=p['b2'])
  else:
    optimizer = contrib.muon(
        _rate(p), beta=p['muon'], consistent_rms=MUON_LENGTH, adam_b1=p['b1'], adam_b2=p['b2'],
        muon_weight_dimension_numbers=lambda params: _matrices(params, p.get('adam', ())))
  return optax.chain(_clipped(**p['clip']), optimizer) if 'clip' in p else optimizer


def _matrices(params: Tree, besides: Collection[str]) -> Tree:
  """How Muon sees each parameter as a matrix; None for one that Adam updates.

  The kernel of a dense layer or a convolution, [..., features], has a row for each of its inputs,
  that of a convolution for each place too. UserError if one of `besides` is no module.
  """
  masked = lambda x: isinstance(x, optax.MaskedNode)      # what optax keeps from Muon
  leaves = jax.tree_util.tree_leaves_with_path(params, is_leaf=masked)
  modules = {key.key for path, _ in leaves for key in path[:-1]}
  for name in sorted(set(besides) - modules):
    raise UserError(f'--config.optim: adam={name} names no module of the network; choose among '
                    f'{", ".join(sorted(modules))}')

  def matrix(path, x):
    names = [key.key for key in path]
    if names[-1] != 'kernel' or x.ndim not in (2, 4) or not set(besides).isdisjoint(names):
      return None
    return contrib.MuonDimensionNumbers(tuple(range(x.ndim - 1)), x.ndim - 1)
  return jax.tree_util.tree_map_with_path(matrix, params)


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
