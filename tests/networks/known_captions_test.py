"""Captions far from all known ones are replaced by the nearest, others are not."""
import numpy as np

from xmc_jax.networks.known_captions import nearest


def test_only_captions_below_the_cosine_are_replaced_by_the_nearest():
  random = np.random.default_rng(0)
  known = {'sentence': random.normal(size=(7, 5)).astype(np.float32),
           'tokens': random.integers(1, 99, (7, 4)).astype(np.int32),
           'mask': random.uniform(size=(7, 4)) < 0.5}
  known['sentence'] /= np.linalg.norm(known['sentence'], axis=1, keepdims=True)
  sentence = random.normal(size=(40, 5)).astype(np.float32)
  batch = {'tokens': np.full((40, 4), 100, np.int32), 'mask': np.ones((40, 4), bool)}
  found = nearest(known | {'least': 0.7}, batch, sentence)
  replaced = 0
  for row, caption in enumerate(sentence):
    cosines = [float(caption @ other / np.linalg.norm(caption)) for other in known['sentence']]
    best = int(np.argmax(cosines))
    far = cosines[best] < 0.7
    replaced += far
    for key in ('tokens', 'mask'):
      np.testing.assert_array_equal(found[key][row], (known[key][best] if far else batch[key][row]))
  assert 5 < replaced < 35
