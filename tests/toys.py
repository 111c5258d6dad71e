"""Tiny things for tests. All numbers come from numpy's Philox, so that they outlive JAX's."""
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util
from safetensors import numpy as safetensors_numpy
from toy_methods import quick

from xmc_jax.config import check
from xmc_jax.methods import swift, xmc_gan
from xmc_jax.networks.base import Text
from xmc_jax.training.mesh import make_mesh, put_rows
from xmc_jax.training.program import Program

TEXT_FEATURES, LENGTH = 8, 6


def numbers(seed):
  """A generator whose `random` gives the same numbers with every version of numpy."""
  return np.random.Generator(np.random.Philox(key=seed))


def normal(seed, *shape):
  """Float32 numbers of mean 0 and variance 1: uniform ones, in spite of the name."""
  return (np.sqrt(12) * (numbers(seed).random(shape) - 0.5)).astype(np.float32)


def fill(spec, seed=0):
  """Numbers in the place of every shape of `spec`, a dict of dicts, each by its leaf's name.

  Kernels keep the scale of what they map; biases are not zero; variances are positive; vectors
  of the spectral norm (under 'spectral') have length one; integers and keys stay zero.
  """
  flat = traverse_util.flatten_dict(spec)
  out = {}
  for i, (path, leaf) in enumerate(sorted(flat.items())):
    x = normal(1000 * seed + i, *leaf.shape)
    if 'spectral' in path:
      x = x / np.linalg.norm(x)
    elif path[-1] == 'kernel':
      x = x / np.sqrt(np.prod(leaf.shape[:-1]))
    elif path[-1] == 'var':
      x = 4 + np.abs(x)
    elif path[-1] == 'scale':
      x = 1 + 0.1 * x
    elif path[-1] != 'embedding':
      x = 0.2 * x
    out[path] = x.astype(leaf.dtype)
  return traverse_util.unflatten_dict(out)


def text(seed=0, rows=8, length=LENGTH, features=TEXT_FEATURES):
  """Captions as an encoder would give them, of one to `length` true words."""
  mask = np.arange(length) < 1 + np.arange(rows)[:, None] % length
  return Text(normal(seed, rows, length, features), mask, normal(seed + 1, rows, features))


def batch(spec, seed=0):
  """A batch of the shapes `spec`: images in [0, 1], token ids below 13, padding on the right."""
  random = numbers(seed)
  length = spec['tokens'].shape[-1]
  true = random.integers(2, length + 1, spec['tokens'].shape[:-1])
  mask = np.arange(length) < true[..., None]
  tokens = np.where(mask, random.integers(1, 13, mask.shape), 0).astype(np.int32)
  image = random.random(spec['image'].shape).astype(np.float32)
  made = {'image': image, 'tokens': tokens, 'mask': mask}
  if 'objects' in spec:      # kinds 1 and 2 somewhere, and rows without an object at the end
    *rows, count, columns = spec['objects'].shape
    objects = random.uniform(0.2, 0.8, (*rows, count, columns)).astype(np.float32)
    objects[..., 0] = random.integers(1, 3, (*rows, count))
    objects[..., -1, :] = 0
    made['objects'] = objects
  return made


def state(program, seed=0):
  """A state of `program` on its devices, filled with numbers; optimisers at their zero."""
  spec = program.state_spec
  networks = {name: p.replace(params=fill(p.params, seed + i), stats=fill(p.stats, seed + i),
                             opt_state=jax.tree.map(lambda x: np.zeros(x.shape, x.dtype),
                                                    p.opt_state))
             for i, (name, p) in enumerate(sorted(spec.networks.items()))}
  filled = spec.replace(step=jnp.zeros((), jnp.int32), rng=jax.random.key(seed), networks=networks,
                        ema={name: networks[name].params for name in spec.ema})
  return jax.device_put(filled, jax.tree.map(lambda x: x.sharding, spec))


def forward(networks, params, stats, frozen, batch, rngs):
  """Both halves of a backbone whose fakes phases share: (ForwardOutputs, new stats)."""
  generated, stats = networks.generate(params, stats, frozen, batch, rngs)
  return networks.discriminate(params, stats, frozen, generated)


def two_steps(method, devices, batch_of=None, ema_decay=0.0):
  """(first state, state after two steps, metrics, frozen weights), on the host.

  Of `method` on so many devices, by steepest descent; `batch_of(i)` are the rows of step i.
  """
  program = Program(method.objective, {name: optax.sgd(1e-2) for name in 'gd'}, ema_decay,
                    method.frozen_spec, method.batch_spec, make_mesh(jax.devices()[:devices]))
  step, now = program.compile(), state(program)
  frozen = program.put_frozen(fill(method.frozen_spec))
  host = lambda now: jax.device_get((now.networks, now.ema))
  first = host(now)
  for i in range(2):
    rows = batch_of(i) if batch_of else batch(method.batch_spec, i)
    now, metrics = step(now, frozen, put_rows(rows, program.rows))
  return first, host(now), *jax.device_get((metrics, frozen))


def metric_names(program):
  """The names of the metrics of a step, which is traced and not compiled."""
  return {name for traced in program.trace() for name in traced.out_info[1]}


def spread(found, wanted):
  """The largest error, in units of the root mean square of what is wanted."""
  found, wanted = np.asarray(found), np.asarray(wanted)
  assert found.shape == wanted.shape
  return np.abs(found - wanted).max() / np.sqrt(np.mean(np.square(wanted)))


def largest(a, b):
  """Largest difference of two trees."""
  return max(float(np.abs(x - y).max()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


def same_on_all_devices(one, eight):
  """Asserts that `two_steps` on eight devices learnt what it learnt on one, and that it learnt."""
  first, one, one_metrics = one[:3]
  _, eight, eight_metrics = eight[:3]
  for network in 'gd':
    assert largest(one[0][network].params, first[0][network].params) > 1e-3
  assert largest(one, eight) < 2e-5
  for name, value in one_metrics.items():
    np.testing.assert_allclose(eight_metrics[name], value, rtol=1e-3, atol=1e-4, err_msg=name)


def collectives(compiled):
  """(kind, shapes) of every operation of a compiled program that moves arrays between devices.

  All-reduce is not among them: its result is as large on every device as what each puts in.
  """
  found = re.findall(r'= (.*?) (all-gather|all-to-all|reduce-scatter|collective-permute)\(',
                     compiled.as_text())
  return [(kind, [tuple(map(int, dims.split(','))) for dims in re.findall(r'\[([\d,]+)\]', result)])
          for result, kind in found]


class ArrayImages:
  """A set of images in memory, uint8 [n, h, w, 3]."""

  def __init__(self, images, name):
    self.name, self._images = name, images

  def __len__(self):
    return len(self._images)

  def read(self, indices):
    return self._images[np.asarray(indices)]


def tiny_config(text_folder):
  config = xmc_gan.config()
  config.batch_size = 8
  config.model.size, config.model.width, config.model.z_features = 32, 4, 8
  config.model.dtype = 'float32'
  config.text.encoder, config.text.length = str(text_folder), LENGTH
  return config


def swift_config(text_folder, **settings):
  """A Swift of 32 px and 8 rows; `settings` by their keys with dots, such as model.refine."""
  config = swift.config()
  config.update_from_flattened_dict({
      'batch_size': 8, 'model.size': 32, 'model.widths': (8, 6, 4), 'model.heads_width': 4,
      'model.z_features': 5, 'text.length': LENGTH, 'text.encoder': str(text_folder)} | settings)
  check(config)
  return config


def quick_config(text_folder):
  """For tests of what is around a step: it compiles in a quarter of `tiny_config`'s time."""
  config = quick.config()
  config.batch_size, config.text.encoder, config.text.length = 8, str(text_folder), LENGTH
  return config


def write_bert(folder):
  """A BERT of one layer, two heads and 8 features in Hugging Face's layout; returns its folder."""
  e = TEXT_FEATURES
  sizes = dict(vocab_size=13, hidden_size=e, num_hidden_layers=1, num_attention_heads=2,
               intermediate_size=e, max_position_embeddings=LENGTH, type_vocab_size=2,
               layer_norm_eps=1e-6)
  layer = 'encoder.layer.0'
  linear = [f'{layer}.{name}' for name in (
      'attention.self.query', 'attention.self.key', 'attention.self.value',
      'attention.output.dense', 'intermediate.dense', 'output.dense')]
  norms = ['embeddings.LayerNorm', f'{layer}.attention.output.LayerNorm',
           f'{layer}.output.LayerNorm']
  shapes = {f'embeddings.{name}_embeddings.weight': (rows, e)
            for name, rows in (('word', 13), ('position', LENGTH), ('token_type', 2))}
  shapes |= {f'{name}.weight': (e, e) for name in linear}
  shapes |= {f'{name}.weight': (e,) for name in norms}
  shapes |= {f'{name}.bias': (e,) for name in linear + norms}
  tensors = {name: normal(i, *shape) for i, (name, shape) in enumerate(sorted(shapes.items()))}
  (folder / 'config.json').write_text(json.dumps(sizes))
  (folder / 'tokenizer.json').write_text('{}')
  safetensors_numpy.save_file(tensors, folder / 'model.safetensors')
  return folder
