"""Losses and training steps of the five families; `FAMILIES` builds them from our configs."""
from __future__ import annotations

import copy
import functools

import torch
from torch import nn
from torch.nn import functional as F

from torch_networks import df_gan, frozen, galip, ssa_gan, stacked
from torch_networks.layers import conv
from torch_networks.weights import load

# The DAMSM reads and looks; of its own sizes only the vocabulary is ours to choose.
TEXT_FEATURES = 256


def bce(logits, real: bool):
  return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def hinge(real, fake, wrong):
  return F.relu(1 - real).mean() + (F.relu(1 + fake).mean() + F.relu(1 + wrong).mean()) / 2


def sixth_power(logits, *inputs):
  """Twice the mean sixth power of the gradient norm of the logits [b] in the inputs."""
  slopes = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
  return 2 * (sum(x.square().flatten(1).sum(1) for x in slopes) ** 3).mean()


def both_ways(scores):
  target = torch.arange(len(scores))
  return F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)


def word_loss(regions, words, mask, gamma1, gamma2, gamma3):
  """regions [b, n, e], words [b, t, e]; scores of image i with caption j."""
  similarity = torch.einsum('ine,jte->ijnt', regions, words)
  similarity = similarity.masked_fill(~mask[None, :, None], -torch.inf).softmax(-1)
  attention = (gamma1 * similarity).softmax(2)
  context = torch.einsum('ijnt,ine->ijte', attention, regions)
  near = gamma2 * F.cosine_similarity(context, words[None], dim=-1)
  return both_ways(gamma3 * near.masked_fill(~mask[None], -torch.inf).logsumexp(-1))


def sentence_loss(embeddings, sentences, gamma3):
  return both_ways(gamma3 * F.cosine_similarity(embeddings[:, None], sentences[None], dim=-1))


class Twin:
  """Networks, optimisers and the average of the generator; `step` trains once."""
  twice_differentiated = False      # the discriminator, by a gradient penalty

  def __init__(self, config, g: nn.Module, d: nn.Module, world: nn.Module, trees: dict,
               weights: dict):
    """trees: our parameters of `g` and `d`; weights: our frozen ones of `world`."""
    self.config, self.g, self.d, self.world = config, g, d, world
    for module, tree in ((g, trees['g']), (d, trees['d'])):
      load(module, tree)
    world.load(weights)
    self.prepare()
    o = config.optim
    self.optimizers = {name: torch.optim.Adam(module.parameters(), o[name].lr,
                                              (o[name].b1, o[name].b2))
                       for name, module in (('g', g), ('d', d))}
    self.average = copy.deepcopy(g).requires_grad_(False) if config.ema_decay else None

  def prepare(self) -> None:
    """What is done to the networks before they are trained."""

  def compile(self) -> None:
    """torch.compile of the networks; it cannot compile those that are differentiated twice."""
    self.g.compile()
    self.world.look = torch.compile(self.world.look)
    if not self.twice_differentiated:
      self.d.compile()

  def update(self, name: str, loss) -> float:
    optimizer = self.optimizers[name]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()

  def step(self, image, tokens, mask, z) -> dict[str, float]:
    """image [b, 3, s, s] in [-1, 1], tokens and mask [b, t], z [b, z]; the losses by phase."""
    losses = {}
    for name, network, loss in self.phases(image, tokens, mask, z):
      losses[name] = self.update(network, loss)
    if self.average is not None:
      for mean, now in zip(self.average.parameters(), self.g.parameters()):
        mean.lerp_(now.detach(), 1 - self.config.ema_decay)
    return losses

  def phases(self, image, tokens, mask, z):
    """Yields (name, network, loss), each after the update of the one before."""
    raise NotImplementedError

  def damsm(self, fake, words, mask, sentence):
    w = self.config.terms
    if not (w.damsm_words or w.damsm_sentence):
      return 0.0
    embedding, regions = self.world.look(fake)
    return (w.damsm_words * word_loss(regions, words, mask, w.gamma1, w.gamma2, w.gamma3)
            + w.damsm_sentence * sentence_loss(embedding, sentence, w.gamma3))


class Stacked(Twin):
  def __init__(self, read, first, block, config, trees, weights):
    m = config.model
    g = stacked.StackedGenerator(m.size, m.width, m.residuals, read, TEXT_FEATURES, m.z_features,
                                 m.condition_features)
    d = stacked.StackedDiscriminator(m.size, m.d_width, TEXT_FEATURES, first, block)
    super().__init__(config, g, d, frozen.Damsm(config.text.words), trees, weights)

  def phases(self, image, tokens, mask, z):
    w = self.config.terms
    with torch.no_grad():
      words, sentence = self.world.read(tokens, mask)
    fakes, (mean, log_variance) = self.g(words, mask, sentence, z)
    self.d.requires_grad_(True)
    real = self.d(stacked.smaller(image), sentence, sentence.roll(-1, 0))
    fake = self.d([x.detach() for x in fakes], sentence)
    yield 'discriminator', 'd', w.bce * sum(
        (bce(alone, True) + bce(right, True)) / 2
        + (bce(fake_alone, False) + bce(fake_paired, False) + bce(wrong[:-1], False)) / 3
        for (alone, (right, wrong)), (fake_alone, (fake_paired,)) in zip(real, fake))
    self.d.requires_grad_(False)
    views = self.d(fakes, sentence)
    deceived = sum(bce(alone, True) + bce(paired, True) for alone, (paired,) in views)
    kl = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).mean()
    yield 'generator', 'g', (w.bce * deceived + w.kl * kl
                             + self.damsm(fakes[-1], words, mask, sentence))


class DmGan(Stacked):
  def prepare(self):
    stacked.spectral(self.d)


class DfGan(Twin):
  twice_differentiated = True

  def __init__(self, config, trees, weights):
    m = config.model
    super().__init__(
      config,
      df_gan.DfGenerator(m.size, m.width, TEXT_FEATURES, m.z_features),
      ssa_gan.OneStageDiscriminator(m.size, m.width, TEXT_FEATURES, df_gan.WIDEST),
      frozen.Damsm(config.text.words),
      trees,
      weights,
    )

  def phases(self, image, tokens, mask, z):
    w = self.config.terms
    with torch.no_grad():
      _, sentence = self.world.read(tokens, mask)
    fake = self.g(sentence, z)
    image, said = image.detach().requires_grad_(), sentence.detach().requires_grad_()
    self.d.requires_grad_(True)
    real, wrong = self.d(image, said, sentence.roll(-1, 0))
    fake_logits, = self.d(fake.detach(), sentence)
    yield 'discriminator', 'd', (w.hinge * hinge(real, fake_logits, wrong)
                                 + w.ma_gp * sixth_power(real, image, said))
    self.d.requires_grad_(False)
    yield 'generator', 'g', -w.hinge * self.d(fake, sentence)[0].mean()


class SsaGan(Twin):
  twice_differentiated = True

  def __init__(self, config, trees, weights):
    m = config.model
    super().__init__(
      config,
      ssa_gan.SsaGenerator(m.size, m.width, TEXT_FEATURES, m.z_features),
      ssa_gan.OneStageDiscriminator(m.size, m.width, TEXT_FEATURES, ssa_gan.WIDEST),
      frozen.Damsm(config.text.words),
      trees,
      weights,
    )

  def phases(self, image, tokens, mask, z):
    w = self.config.terms
    with torch.no_grad():
      words, sentence = self.world.read(tokens, mask)
    fake = self.g(sentence, z)
    self.d.requires_grad_(True)
    real, wrong = self.d(image, sentence, sentence.roll(-1, 0))
    fake_logits, = self.d(fake.detach(), sentence)
    yield 'discriminator', 'd', w.hinge * hinge(real, fake_logits, wrong[:-1])
    image, said = image.detach().requires_grad_(), sentence.detach().requires_grad_()
    if w.ma_gp:
      yield 'penalty', 'd', w.ma_gp * sixth_power(self.d(image, said)[0], image, said)
    self.d.requires_grad_(False)
    yield 'generator', 'g', (-w.hinge * self.d(fake, sentence)[0].mean()
                             + self.damsm(fake, words, mask, sentence))


class Galip(Twin):
  twice_differentiated = True

  def __init__(self, config, trees, weights):
    m, c = config.model, config.clip
    sizes = frozen.Sizes(c.features, c.side, c.side // c.patch, c.width, c.layers, c.text_width,
                         c.text_layers, c.pieces)
    self.taps = [-(-c.layers * tap // 12) - 1 for tap in (2, 5, 9)]
    g = galip.GalipGenerator(m.size, m.width, sizes, (self.taps[0], self.taps[-1]), m.z_features)
    super().__init__(config, g, galip.GalipDiscriminator(m.width, sizes), frozen.Clip(sizes), trees,
                     weights)

  def phases(self, image, tokens, mask, z):
    w = self.config.terms
    with torch.no_grad():
      sentence = self.world.read(tokens)
      _, real = self.world.look(image, self.taps)
    fake_embedding, fake = self.world.look(self.g(self.world, sentence, z), self.taps)
    real, said = real.requires_grad_(), sentence.clone().requires_grad_()
    self.d.requires_grad_(True)
    right, wrong = self.d(real, said, sentence.roll(-1, 0))
    fake_logits, = self.d(fake.detach(), sentence)
    yield 'discriminator', 'd', (w.hinge * hinge(right, fake_logits, wrong)
                          + w.ma_gp * sixth_power(right, real, said))
    self.d.requires_grad_(False)
    near = F.cosine_similarity(fake_embedding, sentence).mean()
    yield 'generator', 'g', (-w.hinge * self.d(fake, sentence)[0].mean()
                             - w.similarity * near)


def _conv_bias(*sizes):
  return conv(*sizes, bias=True)


# (config, our parameters {'g', 'd'}, our frozen weights) -> Twin
FAMILIES = {
    'attngan': functools.partial(Stacked, stacked.WordAttention, conv, stacked.ConvNorm),
    'dm_gan': functools.partial(DmGan, stacked.DynamicMemory, _conv_bias, _conv_bias),
    'df_gan': DfGan,
    'ssa_gan': SsaGan,
    'galip': Galip,
}
