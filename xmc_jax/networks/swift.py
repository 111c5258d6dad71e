"""Swift: a small generator and discriminator heads over a frozen network, for training on a CPU.

The generator and the encoder of its noise are in `swift_generator.py`, what it draws where a layout
has it in `swift_objects.py`, the network of layouts in `swift_layout.py`, the heads in
`swift_heads.py`. Here they are put together: what is computed in a step, how a fake is compared
with the real image of its caption, and which image of a caption shows it best.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmc_jax.encoders import squeezenet
from xmc_jax.layers.spectral import init_vectors, spectral_normalize
from xmc_jax.losses.matching import word_scores
from xmc_jax.losses.tokens import token_losses
from xmc_jax.networks import base, matcher
from xmc_jax.networks.base import ForwardOutputs, SplitForward, Text
from xmc_jax.networks.known_captions import nearest
from xmc_jax.networks.swift_generator import Encoder, SwiftGenerator
from xmc_jax.networks.swift_heads import Heads
from xmc_jax.networks.swift_layout import NUMBERS, LayoutNetwork
from xmc_jax.types import Array, Batch, Tree
from xmc_jax.utils.arrays import unit

# Weight of the token losses when images of one caption are compared, chosen on training captions.
MATCH_TOKEN = 5.0
# Weight of the matching network's logit, chosen there too.
MATCH_LOGIT = 1.0
MATCH_WRONG = 3     # captions of other images that the matching network compares with a fake's
# Weights of the maps in the perceptual distance. Each map's gradient on a fake then has about the
# same length; with equal weights the deepest would have thirty times that of the first.
DISTANCE_WEIGHTS = (8.0, 2.0, 1.0, 0.25)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SwiftOutputs(ForwardOutputs):
  """Outputs with the distances of fakes to the real images of their captions.

  Both are 0 for examples whose noise was not read from the real image, and scaled so that their
  mean over many examples is that of the others.
  """
  pixels: Array | None = None       # [b], by `pixel_distance`
  perceptual: Array | None = None   # [b], by `perceptual_distance`
  layout_loss: Array | None = None  # [b], negative log likelihood of the layout, in nats
  # Of fakes by the matching network, [b, k]: the own caption first, then those of other images.
  match_logits: Array | None = None


def enlarged_maps(variables: Tree, images: Array, factor: int) -> tuple[Array, ...]:
  """The maps of images [b, s, s, 3], enlarged bilinearly by 1 or 2 before SqueezeNet sees them.

  SqueezeNet was trained at 227 px and hardly knows things of 10 to 20 px. Of twice the size, the
  two maps of fine detail are averaged over 2 x 2 places, and the two deep ones are as they come.
  """
  if factor == 1:
    return squeezenet.maps(variables, images)
  b, h, w, c = images.shape
  large = jax.image.resize(images, (b, 2 * h, 2 * w, c), 'linear')
  *fine, third, fourth = squeezenet.maps(variables, large)
  return (*(nn.avg_pool(x, (2, 2), (2, 2)) for x in fine), third, fourth)


def pixel_distance(a: Array, b: Array) -> Array:
  """Mean absolute difference [b] of images [b, h, w, 3], and of their means over 8 x 8 pixels."""
  def difference(step):
    coarse = lambda x: x.reshape(len(x), x.shape[1] // step, step, x.shape[2] // step, step, 3)
    return jnp.abs((coarse(a) - coarse(b)).mean((2, 4))).mean((1, 2, 3))
  return difference(1) + difference(8)


def perceptual_distance(a: Sequence[Array], b: Sequence[Array]) -> Array:
  """Distance [b] of images by their maps, each place's features scaled to length one.

  LPIPS (Zhang et al., arXiv 1801.03924) without learned weights of the features.
  """
  return sum(weight * jnp.square(unit(x) - unit(y)).sum(-1).mean((1, 2))
             for weight, x, y in zip(DISTANCE_WEIGHTS, a, b))


@dataclasses.dataclass(frozen=True)
class SwiftNetworks(SplitForward):
  """Generator with its encoder "g" and heads "d"; the frozen text encoder and SqueezeNet.

  encode: (frozen, batch) -> Text, of training captions. encode_any: the same of any caption.
  text_features: e of both. augment: (rngs, images) -> images, before the frozen network; a fake
  is augmented like its real image, so that they can be compared. known: share of examples whose
  noise is read from the real image. enlarge: of images before the frozen network, 1 or 2.
  noise_std: standard deviation of the noise of samples. In some directions the noise that is read
  varies more than a standard normal, whose samples then show too little variety.
  chooses_with_matcher: whether the matching network `frozen["matcher"]` helps to choose among
  images of a caption. learns_matching: whether it compares fakes with their captions in training.
  style_features: of the noise that is not the layout's. layouts: draws the layout of a caption;
  None if the generator draws none. nearest: whether captions far from those of
  `frozen["known_captions"]` are drawn as the nearest of these.
  """
  generator: SwiftGenerator
  heads: Heads
  size: int
  encode: Callable[[dict[str, Tree], Batch], Text]
  encode_any: Callable[[dict[str, Tree], Batch], Text]
  text_features: int
  augment: Callable[[Array, Array], Array] = lambda rngs, x: x
  style_features: int = 64
  known: float = 0.75
  enlarge: int = 1
  noise_std: float = 1.0
  chooses_with_matcher: bool = False
  learns_matching: bool = False
  layouts: LayoutNetwork | None = None
  nearest: bool = False

  @property
  def encoder(self) -> Encoder:
    return Encoder(self.style_features, self.generator.places)

  @property
  def z_features(self) -> int:
    """Of the noise of an image: that of the generator, and that which draws the layout."""
    return self.style_features + (NUMBERS * self.layouts.objects if self.layouts else 0)

  def init(self, rng: Array, batch: Batch) -> dict[str, Tree]:
    g_rng, e_rng, d_rng, vector_rng = jax.random.split(rng, 4)
    text = base.text_zeros(batch, self.text_features)
    b = len(text.sentence)
    image = jnp.zeros((b, self.size, self.size, 3))
    maps = [jnp.zeros(m.shape) for m in jax.eval_shape(
        self.maps, squeezenet.maps_variables_spec(), image)]
    objects = batch.get('objects')
    g = self.generator.init(g_rng, text, jnp.zeros((b, self.style_features)), objects)
    e = self.encoder.init(e_rng, image, text.sentence)
    d = self.heads.init(d_rng, maps, text)
    params = {'generator': g['params'], 'encoder': e['params']}
    if self.layouts:
      layout_rng = jax.random.fold_in(g_rng, 0)
      params['layout'] = self.layouts.init(layout_rng, text, objects)['params']
    return {'g': {'params': params},
            'd': {**d, 'spectral': init_vectors(vector_rng, d['params'])}}

  def maps(self, variables: Tree, images: Array) -> tuple[Array, ...]:
    """What the heads see of images."""
    return enlarged_maps(variables, images, self.enlarge)

  def generate(self, params, stats, frozen, batch, rngs):
    """Outputs of the fakes, and the frozen network's maps of the real images and the fakes."""
    z_rngs, known_rngs, augment_rngs = jax.vmap(
        lambda rng: jax.random.split(rng, 3), out_axes=1)(rngs)
    text, image = self.encode(frozen, batch), batch['image']
    mean, log_variance = self.encoder.apply({'params': params['g']['encoder']}, image,
                                            text.sentence)
    z = base.normal_noise(z_rngs, self.style_features)
    known = jax.vmap(lambda rng: jax.random.bernoulli(rng, self.known))(known_rngs)
    z = jnp.where(known[:, None], mean + jnp.exp(log_variance / 2) * z, z)
    objects = batch.get('objects')
    fake = self.generator.apply({'params': params['g']['generator']}, text, z, objects)
    layout_loss = self.layouts and self.layouts.apply({'params': params['g']['layout']}, text,
                                                      objects)
    real_maps, fake_maps = (self.maps(frozen['backbone'], self.augment(augment_rngs, x))
                            for x in (image, fake))
    share = known.astype(jnp.float32) / self.known
    embed = lambda maps: maps[-1].mean((1, 2))
    outputs = SwiftOutputs(
        batch, text, (fake,), latent=(mean, log_variance), real_embedding=embed(real_maps),
        fake_embedding=embed(fake_maps), pixels=share * pixel_distance(fake, image),
        perceptual=share * perceptual_distance(fake_maps, real_maps),
        layout_loss=layout_loss,
        match_logits=self.match_logits(frozen, augment_rngs, fake, text))
    return (outputs, real_maps, fake_maps), stats

  def match_logits(self, frozen: dict[str, Tree], rngs: Array, fake: Array, text: Text
                   ) -> Array | None:
    """The logits of fakes, moved like those that the heads see, by the matching network."""
    if not self.learns_matching:
      return None
    wrong = min(MATCH_WRONG, len(fake) - 1)      # a small batch has fewer captions of others
    return matcher.logits_of(frozen['matcher'], self.augment(rngs, fake), text, wrong)

  def discriminate(self, params, stats, frozen, generated):
    outputs, real_maps, fake_maps = generated
    weights, vectors = spectral_normalize(params['d'], stats['d']['spectral'])
    discriminate = lambda *given: self.heads.apply({'params': weights}, *given)
    text = outputs.text
    real, wrong = discriminate(real_maps, text, jax.tree.map(lambda x: jnp.roll(x, -1, 0), text))
    fake, = discriminate(fake_maps, text)
    outputs = dataclasses.replace(outputs, d_real=real, d_wrong=wrong, d_fake=fake)
    return outputs, stats | {'d': {'spectral': vectors}}

  def match(self, params, stats, frozen, batch, images):
    """How well images show their captions; float32 [b].

    By the word losses of the heads, and by the matching network if there is one.
    """
    weights, _ = spectral_normalize(params, stats['spectral'])
    text = self.encode_any(frozen, batch)
    seen, = self.heads.apply({'params': weights}, self.maps(frozen['backbone'], images), text)
    scores = jax.vmap(lambda *pair: word_scores(*(x[None] for x in pair))[0, 0])(
        seen.regions, text.words, text.mask)
    losses = token_losses(seen.regions, text.words, text.mask).sum(-1) / text.mask.sum(-1)
    scores -= MATCH_TOKEN * losses
    if self.chooses_with_matcher:
      scores += MATCH_LOGIT * matcher.logits_of(frozen['matcher'], images, text)[:, 0]
    return scores

  def replaced(self, frozen, batch):
    """The captions that are drawn for those of the batch, if `nearest`."""
    sentence = self.encode_any(frozen, batch).sentence
    return nearest(frozen['known_captions'], batch, sentence)

  def sample(self, params, stats, frozen, batch, z):
    shown = self.replaced(frozen, batch) if self.nearest else batch
    text, objects = self.encode_any(frozen, shown), None
    if self.layouts:
      z, noise = jnp.split(z, [self.style_features], -1)
      uniform = jax.scipy.special.ndtr(noise).reshape(len(z), -1, NUMBERS)
      # A layout changes in steps, of which its gradient knows nothing; the search must not use it.
      objects = jax.lax.stop_gradient(self.layouts.apply(
          {'params': params['layout']}, text, uniform, method='sample'))
    return self.generator.apply({'params': params['generator']}, text, self.noise_std * z, objects)
