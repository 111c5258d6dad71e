"""The bidirectional LSTM: against loops in float64, against torch, and what padding changes."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax.encoders.lstm import BiLstm

WIDTH, FEATURES = 3, 4
LENGTHS = (5, 1, 3, 5)


def example():
  """Module, variables filled with numbers, inputs [4, 5, 4] and their mask."""
  module = BiLstm(WIDTH)
  mask = np.arange(5) < np.array(LENGTHS)[:, None]
  x = toys.normal(1, len(LENGTHS), 5, FEATURES)
  spec = jax.eval_shape(module.init, jax.random.key(0), x, mask)
  params = {k: 0.5 * toys.normal(i, *s.shape) for i, (k, s) in enumerate(spec['params'].items())}
  return module, {'params': params}, x, mask


def slow(params, x, length):
  """States [length, 2 * WIDTH] and the last ones of one caption, step by step."""
  sigmoid = lambda v: 1 / (1 + np.exp(-v))
  found = np.zeros((length, 2 * WIDTH))
  last = []
  for way, order in enumerate((range(length), reversed(range(length)))):
    h, c = np.zeros(WIDTH), np.zeros(WIDTH)
    for t in order:
      gates = (x[t].astype(float) @ params['input'][way] + params['input_bias'][way]
               + h @ params['hidden'][way] + params['hidden_bias'][way])
      enter, forget, cell, out = np.split(gates, 4)
      c = sigmoid(forget) * c + sigmoid(enter) * np.tanh(cell)
      h = sigmoid(out) * np.tanh(c)
      found[t, way * WIDTH:(way + 1) * WIDTH] = h
    last.append(h)
  return found, np.concatenate(last)


def test_states_are_the_loops_and_padding_is_zero():
  module, variables, x, mask = example()
  words, last = jax.jit(module.apply)(variables, x, mask)
  for row, length in enumerate(LENGTHS):
    states, end = slow(variables['params'], x[row], length)
    np.testing.assert_allclose(words[row, :length], states, atol=1e-6)
    np.testing.assert_allclose(last[row], end, atol=1e-6)
    assert not np.any(words[row, length:])


def test_states_are_those_of_torch():
  torch = pytest.importorskip('torch')
  module, variables, x, mask = example()
  lstm = torch.nn.LSTM(FEATURES, WIDTH, batch_first=True, bidirectional=True)
  names = {'weight_ih': 'input', 'weight_hh': 'hidden', 'bias_ih': 'input_bias',
           'bias_hh': 'hidden_bias'}
  lstm.load_state_dict({
      f'{theirs}_l0{end}': torch.tensor(variables['params'][ours][way].T)
      for theirs, ours in names.items() for way, end in enumerate(('', '_reverse'))})
  packed = torch.nn.utils.rnn.pack_padded_sequence(
      torch.tensor(x), LENGTHS, batch_first=True, enforce_sorted=False)
  states, (last, _) = lstm(packed)
  states = torch.nn.utils.rnn.pad_packed_sequence(states, batch_first=True)[0]
  words, ends = module.apply(variables, x, mask)
  np.testing.assert_allclose(words, states.detach(), atol=1e-6)
  np.testing.assert_allclose(ends, torch.cat([last[0], last[1]], -1).detach(), atol=1e-6)


def test_what_stands_at_padding_changes_nothing_and_learns_nothing():
  module, variables, x, mask = example()
  other = np.where(mask[..., None], x, np.float32(9))
  total = lambda x: sum(jnp.sum(out ** 2) for out in module.apply(variables, x, mask))
  assert total(x) == total(other)
  slopes = jax.grad(total)(jnp.array(x))
  assert not np.any(slopes[~mask]) and np.all(np.abs(slopes).sum(-1)[mask] > 0)


def test_a_caption_without_words_is_zero_and_its_slopes_are_finite():
  module, variables, x, _ = example()
  nothing = np.zeros((4, 5), bool)
  words, last = module.apply(variables, x, nothing)
  assert not np.any(words) and not np.any(last)
  total = lambda v: sum(jnp.sum(out ** 2) for out in module.apply(v, x, nothing))
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(jax.grad(total)(variables)))


def test_it_begins_as_torch_does():
  params = BiLstm(128).init(jax.random.key(0), jnp.zeros((1, 1, 300)), jnp.ones((1, 1), bool))
  leaves = params['params']
  assert sum(x.size for x in leaves.values()) == 2 * (428 * 512 + 2 * 512)
  for x in leaves.values():
    assert 0.085 < np.abs(x).max() <= 128 ** -0.5 and abs(x.mean()) < 0.005
