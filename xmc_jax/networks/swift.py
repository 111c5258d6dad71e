"""Swift: a small generator and discriminator heads over a frozen network, for training on a CPU.

Most of an image is decided on small maps, where arithmetic is cheap: the generator is wide at 4 to
16 px and narrow at 64, as in FastGAN (Liu et al., arXiv 2101.04775). The discriminator is a head
for each of several maps of a frozen SqueezeNet, as in Projected GAN (Sauer et al., arXiv
2111.01007). It sees the caption twice: before its last convolution, and as a projection in each
place (Miyato and Koyama, arXiv 1802.05637). An encoder reads the noise of a real image, as in
CVAE-GAN (Bao et al., arXiv 1703.10155), so that a fake can be compared with the image itself. The
sizes and the way these are put together are ours.
"""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from xmc_jax.encoders import squeezenet
from xmc_jax.layers.attention import attend
from xmc_jax.layers.conv import GLOROT, Conv, Dense, leaky, zero_bias
from xmc_jax.layers.impl import FAST, Impl
from xmc_jax.layers.spectral import init_vectors, spectral_normalize
from xmc_jax.losses.matching import word_scores
from xmc_jax.losses.tokens import token_losses
from xmc_jax.networks import base, matcher
from xmc_jax.networks.base import DiscriminatorOutput, ForwardOutputs, SplitForward, Text
from xmc_jax.types import Array, Batch, Tree
from xmc_jax.utils.arrays import unit

CONDITION = 256     # features of the condition that modulates every block
WORDS_AT = (8, 16)  # sides of the maps that attend to words
LAYOUT_AT = (4, 8)  # sides of the maps whose places can attend to one another
FINE = 96           # channels inside the blocks at half the size
REGIONS = 2         # the map whose places meet words in the word term
# Weight of the token losses when images of one caption are compared, chosen on training captions.
MATCH_TOKEN = 5.0
# Weight of the matching network's logit, chosen there too.
MATCH_LOGIT = 1.0
MATCH_WRONG = 3     # captions of other images that the matching network compares with a fake's
# Weights of the maps in the perceptual distance. Each map's gradient on a fake then has about the
# same length; with equal weights the deepest would have thirty times that of the first.
DISTANCE_WEIGHTS = (8.0, 2.0, 1.0, 0.25)


def scaled_unit(x: Array) -> Array:
  """Vectors of a root mean square of one."""
  return unit(x) * jnp.sqrt(jnp.float32(x.shape[-1]))


class Modulated(nn.Module):
  """SiLU of a map [b, h, w, c], normalized in each place, scaled and shifted by a condition [b, d].

  There are no statistics over examples, so nothing has to be kept for sampling.
  """

  @nn.compact
  def __call__(self, x: Array, condition: Array) -> Array:
    scale, shift = jnp.split(Dense(2 * x.shape[-1], name='film')(condition)[:, None, None], 2, -1)
    return nn.silu(scaled_unit(x) * (1 + scale) + shift)


class Reader(nn.Module):
  """Attention of every place of a map [b, h, w, c] over a sequence [b, n, e] -> [b, h, w, c]."""
  heads: int = 4
  features: int = 32
  out_init: nn.initializers.Initializer = GLOROT

  @nn.compact
  def __call__(self, x: Array, sequence: Array, mask: Array) -> Array:
    """mask: [b, n]; what is False has no influence."""
    b, h, w, c = x.shape

    def project(y, name):
      """[b, n, e] -> [b * heads, n, features]"""
      y = Dense(self.heads * self.features, name=name)(y)
      y = y.reshape(b, -1, self.heads, self.features).swapaxes(1, 2)
      return y.reshape(b * self.heads, -1, self.features)

    sequence = scaled_unit(sequence)
    queries = project(scaled_unit(x), 'query') / jnp.sqrt(jnp.float32(self.features))
    read = attend(queries, project(sequence, 'key'), project(sequence, 'value'),
                  jnp.repeat(mask, self.heads, 0))
    read = read.reshape(b, self.heads, h * w, -1).swapaxes(1, 2).reshape(b, h, w, -1)
    return Dense(c, kernel_init=self.out_init, name='out')(read)


class LayoutBlock(nn.Module):
  """Lets the places of a map [b, h, w, c] agree on what stands where; it begins as the identity.

  A transformer's block: every place reads the others, then the words, then passes a layer of twice
  its channels, modulated by the condition [b, d].
  """

  @nn.compact
  def __call__(self, x: Array, condition: Array, text: Text) -> Array:
    b, h, w, c = x.shape
    positions = self.param('positions', nn.initializers.normal(1.0), (h, w, c))
    reader = functools.partial(Reader, out_init=nn.initializers.zeros)
    places = scaled_unit(x) + positions
    x += reader(name='places')(places, places.reshape(b, h * w, c), jnp.ones((b, h * w), bool))
    x += reader(name='words')(scaled_unit(x) + positions, text.words, text.mask)
    y = Dense(2 * c, name='in')(Modulated(name='film')(x, condition))
    return x + Dense(c, kernel_init=nn.initializers.zeros, name='out')(nn.silu(y))


class SwiftBlock(nn.Module):
  """Residual block [b, h, w, c] -> [b, h, w, c]; it begins as the identity."""
  impl: Impl = FAST

  @nn.compact
  def __call__(self, x: Array, condition: Array) -> Array:
    conv = functools.partial(Conv, x.shape[-1], bias_init=zero_bias, impl=self.impl)
    y = conv(name='conv_in')(Modulated(name='film_in')(x, condition))
    y = Modulated(name='film_out')(y, condition)
    return x + conv(kernel_init=nn.initializers.zeros, name='conv_out')(y)


class FineBlock(nn.Module):
  """Residual block [b, h, w, c] -> [b, h, w, c] that reads words; it begins as the identity.

  Inside it has `features` channels.
  """
  features: int
  impl: Impl = FAST

  @nn.compact
  def __call__(self, x: Array, condition: Array, text: Text) -> Array:
    conv = functools.partial(Conv, bias_init=zero_bias, impl=self.impl)
    y = x + Reader(name='words')(x, text.words, text.mask)
    y = conv(self.features, name='conv_in')(Modulated(name='film_in')(y, condition))
    y = Modulated(name='film_out')(y, condition)
    return x + conv(x.shape[-1], kernel_init=nn.initializers.zeros, name='conv_out')(y)


class SwiftUpBlock(nn.Module):
  """Residual block [b, h, w, c] -> [b, 2h, 2w, features]; the shortcut is enlarged bilinearly."""
  features: int
  impl: Impl = FAST

  @nn.compact
  def __call__(self, x: Array, condition: Array) -> Array:
    b, h, w, _ = x.shape
    y = Modulated(name='film_in')(x, condition)
    conv = lambda resize, name: Conv(self.features, resize, bias_init=zero_bias, impl=self.impl,
                                     name=name)
    y = conv('up', 'conv_up')(y)
    y = Modulated(name='film_out')(y, condition)
    y = conv('same', 'conv_out')(y)
    small = Dense(self.features, name='shortcut')(x)
    return y + jax.image.resize(small, (b, 2 * h, 2 * w, self.features), 'linear')


class SwiftGenerator(nn.Module):
  """Captions and noise [b, z] -> images [b, size, size, 3] in [0, 1].

  widths: channels at 4 px, 8 px, … up to size / 2. last: channels at the full size. places: whether
  the noise is a map of 4 x 4 places too, each with its own part of it. layout: blocks in which the
  places of a map read one another and the words, on the maps of 4 and of 8 px. refine: further
  residual blocks after the words have been read, on each map that reads them. fine: blocks at half
  the size that read the words once more.
  """
  widths: tuple[int, ...]
  places: bool = False
  layout: int = 0
  refine: int = 0
  fine: int = 0
  last: int = 24
  impl: Impl = FAST

  @nn.compact
  def __call__(self, text: Text, z: Array) -> Array:
    condition = jnp.concatenate([scaled_unit(text.sentence), z], -1)
    for i in (0, 1):
      condition = nn.silu(Dense(CONDITION, name=f'mapping_{i}')(condition))
    x = Dense(16 * self.widths[0], name='start')(condition).reshape(len(z), 4, 4, -1)
    if self.places:
      x += Dense(self.widths[0], name='places')(z.reshape(len(z), 4, 4, -1))
    x = self.lay_out(x, condition, text)
    for i, width in enumerate(self.widths[1:]):
      x = SwiftUpBlock(width, self.impl, name=f'block_{i}')(x, condition)
      if x.shape[1] in WORDS_AT:
        x += Reader(name=f'words_{i}')(x, text.words, text.mask)
        x = self.lay_out(x, condition, text)
        for j in range(self.refine):
          x = SwiftBlock(self.impl, name=f'refine_{i}_{j}')(x, condition)
    for i in range(self.fine):
      x = FineBlock(FINE, self.impl, name=f'fine_{i}')(x, condition, text)
    x = Modulated(name='film_pixels')(x, condition)
    conv = functools.partial(Conv, bias_init=zero_bias, impl=self.impl)
    x = nn.silu(conv(self.last, 'up', name='last')(x))
    return nn.sigmoid(conv(3, name='pixels')(x))

  def lay_out(self, x: Array, condition: Array, text: Text) -> Array:
    """A map [b, s, s, c] after the layout blocks of its side, if it has any."""
    side = x.shape[1]
    for j in range(self.layout if side in LAYOUT_AT else 0):
      x = LayoutBlock(name=f'layout_{side}_{j}')(x, condition, text)
    return x


class Encoder(nn.Module):
  """Images [b, s, s, 3] in [0, 1] and sentences [b, e] -> mean, log variance [b, z] of noise."""
  z_features: int
  places: bool = False      # as the generator's: each place is read from its part of the image

  @nn.compact
  def __call__(self, image: Array, sentence: Array) -> tuple[Array, Array]:
    h = leaky(nn.Conv(32, (8, 8), (4, 4), name='conv_0')(2 * image - 1))
    h = nn.Conv(64, (3, 3), (2, 2), name='conv_1')(h)
    h = leaky(h + Dense(64, name='sentence')(unit(sentence))[:, None, None])
    h = leaky(nn.Conv(96, (3, 3), (2, 2), name='conv_2')(h))
    h = h.reshape(len(h), 16 if self.places else 1, -1)
    out = nn.Dense(2 * self.z_features // h.shape[1], kernel_init=nn.initializers.normal(0.01),
                   name='out')(h)
    mean, log_variance = (x.reshape(len(h), -1) for x in jnp.split(out, 2, -1))
    return mean, jnp.clip(log_variance, -8, 4)


def best_fit(h: Array, sequence: Array, mask: Array) -> Array:
  """How well each place of a map [b, h, w, c] fits a sequence [b, t, c], by its best element.

  Returns [b, h, w], the soft maximum of the products divided by sqrt(c): 0 where all products are,
  and the product itself for a sequence of one. mask: [b, t]; what is False has no influence.
  """
  products = jnp.einsum('bhwc,btc->bhwt', h, sequence) / jnp.sqrt(jnp.float32(h.shape[-1]))
  products += jnp.where(mask, 0, -jnp.inf)[:, None, None]
  return jax.nn.logsumexp(products, -1) - jnp.log(mask.sum(-1))[:, None, None]


class Heads(nn.Module):
  """Discriminator heads, one per map, and the embeddings of the contrastive losses.

  words: e of a word. read_words: whether a place is compared with every word of the caption, in
  place of the sentence. A plain network; the caller applies spectral normalization to its
  parameters.
  """
  words: int
  width: int
  features: int = 128
  read_words: bool = False

  @nn.compact
  def __call__(self, maps: Sequence[Array], *texts: Text) -> tuple[DiscriminatorOutput, ...]:
    """A `DiscriminatorOutput` of maps [b, h, w, c] with each of the texts.

    Logits are [b, places] a map. What does not depend on the text is computed once.
    """
    inputs = [Dense(self.width, name=f'in_{i}')(m) for i, m in enumerate(maps)]
    # The largest map is halved, which leaves places of about the size of the second's.
    convs = [nn.Conv(self.width, (3, 3), (1 + (i == 0),) * 2, name=f'mid_{i}')
             for i in range(len(maps))]
    layer = lambda features, name: [Dense(features, name=f'{name}_{i}') for i in range(len(maps))]
    shifts, projections = layer(self.width, 'caption'), layer(self.width, 'projection')
    logits = layer(1, 'logit')
    features = Dense(self.features, name='features')(
        jnp.concatenate([leaky(h).mean((1, 2)) for h in inputs], -1))
    regions = Dense(self.words, name='regions')(leaky(inputs[REGIONS]))
    regions = regions.reshape(len(features), -1, self.words)
    caption = Dense(self.features, name='sentence')

    def view(text):
      sentence, found = scaled_unit(text.sentence), []
      sequence, mask = sentence[:, None], jnp.ones((len(sentence), 1), bool)
      if self.read_words:      # a place then fits by one word, not by a bit of each
        sequence, mask = scaled_unit(text.words), text.mask
      for h, shift, conv, project, logit in zip(inputs, shifts, convs, projections, logits):
        h = leaky(conv(leaky(h + shift(sentence)[:, None, None])))
        fit = best_fit(h, project(sequence), mask)
        found.append((logit(h)[..., 0] + fit).reshape(len(h), -1))
      return DiscriminatorOutput(tuple(found), features, regions, caption(sentence))
    return tuple(view(text) for text in texts)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SwiftOutputs(ForwardOutputs):
  """Outputs with the distances of fakes to the real images of their captions.

  Both are 0 for examples whose noise was not read from the real image, and scaled so that their
  mean over many examples is that of the others.
  """
  pixels: Array | None = None       # [b], by `pixel_distance`
  perceptual: Array | None = None   # [b], by `perceptual_distance`
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
  varies more than a standard normal, whose samples then show too little variety. matcher: whether
  `frozen["matcher"]` helps to choose among images of a caption. matched: whether fakes are compared
  with their captions by it in training.
  """
  generator: SwiftGenerator
  heads: Heads
  size: int
  encode: Callable[[dict[str, Tree], Batch], Text]
  encode_any: Callable[[dict[str, Tree], Batch], Text]
  text_features: int
  augment: Callable[[Array, Array], Array] = lambda rngs, x: x
  z_features: int = 64
  known: float = 0.75
  enlarge: int = 1
  noise_std: float = 1.0
  matcher: bool = False
  matched: bool = False

  @property
  def encoder(self) -> Encoder:
    return Encoder(self.z_features, self.generator.places)

  def init(self, rng: Array, batch: Batch) -> dict[str, Tree]:
    g_rng, e_rng, d_rng, vector_rng = jax.random.split(rng, 4)
    text = base.text_zeros(batch, self.text_features)
    b = len(text.sentence)
    image = jnp.zeros((b, self.size, self.size, 3))
    maps = [jnp.zeros(m.shape) for m in jax.eval_shape(
        self.maps, squeezenet.maps_variables_spec(), image)]
    g = self.generator.init(g_rng, text, jnp.zeros((b, self.z_features)))
    e = self.encoder.init(e_rng, image, text.sentence)
    d = self.heads.init(d_rng, maps, text)
    return {'g': {'params': {'generator': g['params'], 'encoder': e['params']}},
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
    z = base.normal_noise(z_rngs, self.z_features)
    known = jax.vmap(lambda rng: jax.random.bernoulli(rng, self.known))(known_rngs)
    z = jnp.where(known[:, None], mean + jnp.exp(log_variance / 2) * z, z)
    fake = self.generator.apply({'params': params['g']['generator']}, text, z)
    real_maps, fake_maps = (self.maps(frozen['backbone'], self.augment(augment_rngs, x))
                            for x in (image, fake))
    share = known.astype(jnp.float32) / self.known
    embed = lambda maps: maps[-1].mean((1, 2))
    outputs = SwiftOutputs(
        batch, text, (fake,), latent=(mean, log_variance), real_embedding=embed(real_maps),
        fake_embedding=embed(fake_maps), pixels=share * pixel_distance(fake, image),
        perceptual=share * perceptual_distance(fake_maps, real_maps),
        match_logits=self.matched_with(frozen, augment_rngs, fake, text))
    return (outputs, real_maps, fake_maps), stats

  def matched_with(self, frozen: dict[str, Tree], rngs: Array, fake: Array, text: Text
                   ) -> Array | None:
    """The logits of fakes, moved like those that the heads see, by the matching network."""
    if not self.matched:
      return None
    return matcher.logits_of(frozen['matcher'], self.augment(rngs, fake), text, MATCH_WRONG)

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
    if self.matcher:
      scores += MATCH_LOGIT * matcher.logits_of(frozen['matcher'], images, text)[:, 0]
    return scores

  def sample(self, params, stats, frozen, batch, z):
    return self.generator.apply({'params': params['generator']}, self.encode_any(frozen, batch),
                                self.noise_std * z)
