"""From a method's networks and losses to the phases of its training step."""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import ml_collections

from xmc_jax.data.views import one_view
from xmc_jax.methods import Method, _shared
from xmc_jax.methods._diagnostics import pair_accuracies
from xmc_jax.networks.base import Forward, ForwardOutputs, SplitForward
from xmc_jax.training.microbatches import WHOLE, Microbatches, in_microbatches
from xmc_jax.training.objective import Objective, Outcome, Phase, SharedFakes
from xmc_jax.types import Array, Batch, UserError

Losses = dict[str, Array]                             # {name: unweighted scalar}
Split = Callable[[Batch], tuple[Batch, ...]]          # a batch -> the batches of its branches
Branches = tuple[ForwardOutputs, ...]                 # one forward pass per branch


@dataclasses.dataclass(frozen=True)
class Extension:
  """What a framework such as SCL adds to a method: branches, and losses over all of them.

  split: from a batch to one batch per branch. losses: by network, of the outputs of all branches.
  weights: of these losses, by name. labels: whether these losses use labels.
  """
  split: Split = one_view
  losses: Mapping[str, Callable[[Branches], Losses]] = dataclasses.field(default_factory=dict)
  weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
  labels: bool = False


def make_phase(name: str, losses: Mapping[str, Callable[[ForwardOutputs], Losses]],
               weights: Mapping[str, float], networks: Forward | SplitForward, *,
               extension: Extension | None = None, microbatches: Microbatches = WHOLE,
               shared: SharedFakes | None = None,
               diagnostics: Callable[[ForwardOutputs], Losses] = lambda outputs: {}) -> Phase:
  """One optimizer step of the networks that `losses` names.

  The loss of a network is the sum over branches of its named losses, each times the weight of the
  same name in `weights`, plus the weighted losses of the extension. A loss whose weight is 0 is not
  computed. The branches run one after the other and thread the BatchNorm statistics; each runs in
  `microbatches`, while the losses see the whole batch.

  shared: the result of `shared_fakes`, where several phases use the same fakes. Such a phase
    updates only the statistics of its own networks, and ignores `microbatches`.
  diagnostics: metrics of the first branch that are not trained on.

  Metrics: `network/loss name`, weighted as it enters the sum, and `accuracy/diagnostic`.
  Raises UserError if every loss of a network has weight 0.
  """
  extension = extension or Extension()
  run = networks.discriminate if shared else in_microbatches(networks.forward, microbatches)

  def forward(params, stats, frozen, batch, rng, generated=()):
    branches = []
    for inputs in generated if shared else branch_inputs(extension.split, batch, rng):
      outputs, stats = run(params, stats, frozen, *inputs)
      branches.append(outputs)
    named = {}
    for network, loss in losses.items():
      own = _sum_over(branches, loss)
      added = extension.losses.get(network, lambda _: {})(tuple(branches))
      named[network] = _weighted(own, weights) | _weighted(added, extension.weights)
      if not named[network]:
        raise UserError(f'every loss of the network {network!r} in the phase {name!r} has weight '
                        '0; give one of them a weight: '
                        + ', '.join(f'--config.terms.{key}' for key in own))
    metrics = {f'{network}/{k}': v for network, values in named.items() for k, v in values.items()}
    with jax.named_scope('diagnostics'):
      metrics |= {f'accuracy/{k}': v for k, v in diagnostics(branches[0]).items()}
    totals = {network: functools.reduce(jnp.add, values.values())
              for network, values in named.items()}
    return Outcome(totals, {n: stats[n] for n in losses} if shared else stats, metrics)
  return Phase(name, tuple(losses), forward, shared)


def shared_fakes(networks: SplitForward, extension: Extension | None = None) -> SharedFakes:
  """The fakes of the generator "g" that the phases of a round share, one branch after the other."""
  split = extension.split if extension else one_view

  def run(params, stats, frozen, batch, rng):
    generated = []
    for inputs in branch_inputs(split, batch, rng):
      outputs, stats = networks.generate(params, stats, frozen, *inputs)
      generated.append((outputs,))
    return generated, stats['g']
  return SharedFakes('g', run)


def one_round(config: ml_collections.ConfigDict, networks: SplitForward,
              phases: Mapping[str, tuple[str, Callable[[ForwardOutputs], Losses]]],
              extension: Extension | None, *, labels: bool = False, objects: int = 0,
              **of_method) -> Method:
  """The method whose step is one round of phases that see the same fakes.

  phases: {name: (network, its losses)}; the first reports `pair_accuracies`.
  labels: whether losses use labels without an extension too. objects: rows of a layout; 0: none.
  of_method: fields of `Method`: frozen, frozen_spec, frozen_settings, tokenizer.
  """
  phase = functools.partial(make_phase, weights=config.terms, networks=networks,
                            extension=extension, shared=shared_fakes(networks, extension))
  first, *others = ((name, {network: losses}) for name, (network, losses) in phases.items())
  steps = (phase(*first, diagnostics=pair_accuracies), *(phase(*other) for other in others))
  return Method(
      objective=Objective((steps,), networks.init, averaged=('g',)), sample=networks.sample,
      z_features=networks.z_features,
      batch_spec=_shared.batch_spec(config, extension, labels=labels, objects=objects),
      **of_method)


def branch_inputs(split: Split, batch: Batch, rng: Array) -> list[tuple[Batch, Array]]:
  """The batch of each branch, with one random key per example."""
  return [(rows, jax.random.split(jax.random.fold_in(rng, i), len(jax.tree.leaves(rows)[0])))
          for i, rows in enumerate(split(batch))]


def _sum_over(branches: list[ForwardOutputs],
              loss: Callable[[ForwardOutputs], Losses]) -> Losses:
  return functools.reduce(lambda a, b: {k: a[k] + b[k] for k in a}, map(loss, branches))


def _weighted(losses: Losses, weights: Mapping[str, float]) -> Losses:
  """The losses times their weights. Those of weight 0 are dropped, so XLA does not compute them."""
  weighted = {}
  for name, value in losses.items():
    if weights[name]:
      with jax.named_scope(name):
        weighted[name] = weights[name] * value
  return weighted
