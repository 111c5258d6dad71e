"""A method whose step compiles in a quarter of XMC-GAN's time, for tests of what is around a step.

Runs name it by its import path, `config.method = 'toy_methods.quick'`. It has statistics, a
contrast of the whole batch, and a generator whose average is drawn with, as XMC-GAN has.
"""
import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from xmc_jax import config as defaults
from xmc_jax.losses.adversarial import hinge_d, hinge_g
from xmc_jax.losses.contrastive import nt_xent
from xmc_jax.methods import Method, _bert, _shared
from xmc_jax.methods._steps import make_phase
from xmc_jax.networks.base import DiscriminatorOutput, ForwardOutputs, normal_noise
from xmc_jax.training.objective import Objective

SIZE = 32


def config():
  c = defaults.base()
  with c.unlocked():
    c.method = 'toy_methods.quick'
    c.model = dict(_shared.label_config(), size=SIZE, width=4, z_features=16)
    c.text = dict(_bert.text_config(), length=16)
    c.terms = dict(hinge=1.0, sentence=1.0)
    c.optim = dict(g=dict(lr=1e-3, b1=0.5, b2=0.999), d=dict(lr=1e-3, b1=0.5, b2=0.999))
    c.evals.protocol = 'offline'
    del c['image']
  return c


class Generator(nn.Module):
  width: int

  @nn.compact
  def __call__(self, sentence, z, train):
    x = nn.Dense(64 * self.width)(jnp.concatenate([sentence, z], -1)).reshape(len(z), 8, 8, -1)
    x = nn.relu(nn.BatchNorm(not train, momentum=0.9)(x))
    x = jax.image.resize(x, (len(z), SIZE, SIZE, self.width), 'nearest')
    return nn.sigmoid(nn.Conv(3, (3, 3))(x))


class Discriminator(nn.Module):
  width: int

  @nn.compact
  def __call__(self, image, sentence, train):
    x = nn.leaky_relu(nn.Conv(self.width, (4, 4), (4, 4))(image))
    x = nn.BatchNorm(not train, momentum=0.9)(x)
    features, caption = nn.Dense(8)(x.reshape(len(x), -1)), nn.Dense(8)(sentence)
    logits = nn.Dense(1)(features)[:, 0] + (features * caption).sum(-1)
    return DiscriminatorOutput((logits,), features, sentence=caption)


@dataclasses.dataclass(frozen=True)
class Networks:
  """Generator "g" and discriminator "d", both with statistics; the frozen text encoder."""
  text: _bert.FrozenBert
  width: int
  z_features: int

  @property
  def generator(self):
    return Generator(self.width)

  @property
  def discriminator(self):
    return Discriminator(self.width)

  def init(self, rng, batch):
    g, d = jax.random.split(rng)
    rows = len(batch['tokens'])
    sentence = jnp.zeros((rows, self.text.features))
    return {'g': self.generator.init(g, sentence, jnp.zeros((rows, self.z_features)), False),
            'd': self.discriminator.init(d, jnp.zeros((rows, SIZE, SIZE, 3)), sentence,
                                        False)}

  def forward(self, params, stats, frozen, batch, rngs):
    text = self.text.encode(frozen, batch)
    z = normal_noise(rngs, self.z_features)
    stats = dict(stats)

    def apply(name, network, *inputs):
      out, stats[name] = network.apply({'params': params[name], **stats[name]}, *inputs, True,
                                       mutable=['batch_stats'])
      return out
    fake = apply('g', self.generator, text.sentence, z)
    real, fakes = (apply('d', self.discriminator, x, text.sentence)
                   for x in (batch['image'], fake))
    return ForwardOutputs(batch, text, (fake,), real, fakes, fake_embedding=fakes.features), stats

  def sample(self, params, stats, frozen, batch, z):
    text = self.text.encode(frozen, batch)
    return self.generator.apply({'params': params, **stats}, text.sentence, z, False)


def discriminator_losses(out):
  return {'hinge': hinge_d(out.d_real.logits[0], out.d_fake.logits[0]),
          'sentence': nt_xent(out.d_real.features, out.d_real.sentence)}


def generator_losses(out):
  return {'hinge': hinge_g(out.d_fake.logits[0]),
          'sentence': nt_xent(out.d_fake.features, out.d_fake.sentence)}


def build(config, extension=None):
  text = _bert.frozen_bert(config)
  networks = Networks(text, config.model.width, config.model.z_features)
  phases = tuple(make_phase(name, {network: losses}, config.terms, networks, extension=extension)
                 for name, network, losses in (('discriminator', 'd', discriminator_losses),
                                               ('generator', 'g', generator_losses)))
  return Method(Objective((phases,), networks.init, averaged=('g',)), networks.sample,
                networks.z_features, {'text': text.load}, {'text': text.spec},
                _shared.batch_spec(config, extension), text.tokenizer,
                frozen_settings={'text': text.settings})
