"""The JavaScript of a page against Python: noise, SHA-256, words and tokens, run by node."""
import hashlib
import html
import json
import math
import shutil
import subprocess

import jax
import numpy as np
import pytest

from xmc_jax.page.build import SITE
from xmc_jax.prepare.captions import clean
from xmc_jax.sampling import caption_noise

pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    shutil.which('node') is None, reason='node, which runs the JavaScript, is not installed')]


@pytest.fixture
def node(tmp_path):
  """Runs an expression over the exports of noise.js, captions.js and a value: what it gives."""
  for name in ('noise.js', 'captions.js'):
    shutil.copy(SITE / name, tmp_path / name)
  (tmp_path / 'package.json').write_text('{"type": "module"}')

  def run(expression, given):
    (tmp_path / 'run.mjs').write_text(
        "import * as noise from './noise.js';\nimport * as captions from './captions.js';\n"
        "import {readFileSync} from 'node:fs';\n"
        "const given = JSON.parse(readFileSync('given.json'));\n"
        f'console.log(JSON.stringify(given.map((x) => {expression})));\n')
    (tmp_path / 'given.json').write_text(json.dumps(given))
    return json.loads(subprocess.run(['node', 'run.mjs'], cwd=tmp_path, check=True, text=True,
                                     capture_output=True).stdout)
  return run


def test_keys_are_those_of_jax(node):
  pairs = [(seed, number) for seed in (0, 1, 2**31, 2**32 - 1) for number in (0, 7, 2**32 - 1)]
  wanted = [jax.random.key_data(jax.random.fold_in(jax.random.key(seed), np.uint32(number)))
            for seed, number in pairs]
  assert node('noise.foldIn([0, x[0]], x[1])', pairs) == np.array(wanted).tolist()


def test_hashes_are_those_of_sha256(node):
  texts = ['', 'a red apple', 'é' * 200, *('x' * n for n in (55, 56, 63, 64, 65, 119, 120))]
  found = node("Buffer.from(noise.sha256(new TextEncoder().encode(x))).toString('hex')", texts)
  assert found == [hashlib.sha256(text.encode()).hexdigest() for text in texts]


def test_words_end_where_pythons_do(node):
  texts = [f'a{chr(sign)}b ' for sign in (*range(0x21), 0x85, 0xa0, 0x180e, *range(0x2000, 0x2030),
                                          0x205f, 0x3000, 0xfeff)]
  assert node('captions.words(x)', texts) == [' '.join(text.split()) for text in texts]


def test_captions_are_cleaned_as_in_python(node):
  texts = [f'a{chr(sign)}b' for sign in (*range(0x100), *range(0x2000, 0x2070), 0x3000, 0xfeff)]
  texts += ['R&D', 'a\u200d👍🏽', ' a \u00adb\n']
  assert node('captions.clean(x)', texts) == [clean(text) for text in texts]
  entities = ['a &amp; b', '&amp;#39;s', '&AMP;lt;', 'x&#x41;;', '&nothing1;']
  resolved = {x: html.unescape(x) for x in ('&amp;', '&AMP;', '&#39;', '&lt;', '&#x41;',
                                            '&nothing1;')}
  assert node(f'captions.clean(x, (e) => ({json.dumps(resolved)})[e])', entities) == [
      clean(text) for text in entities]


def test_the_error_function(node):
  numbers = np.concatenate([np.linspace(-7, 7, 281), [1e-8]]).tolist()
  np.testing.assert_allclose(node('noise.erf(x)', numbers), [math.erf(x) for x in numbers],
                             rtol=1e-12)


@pytest.mark.parametrize('truncation', [None, 0.1, 0.7, 2.9, 10.0])
def test_noise_is_that_of_python(node, truncation):
  captions = ['a red apple', '  a   red\tapple', 'café über', 'the flag of France']
  for seed in (0, 3, 2**32 - 1):
    wanted = caption_noise(captions, 2000, seed, truncation)
    given = [[caption, copy, 2000, seed, truncation]
             for caption, copy in zip(captions, (0, 1, 0, 0))]
    found = np.array(node('Array.from(noise.captionNoise(...x))', given))
    np.testing.assert_allclose(found, wanted, rtol=3e-6, atol=3e-7)
    if truncation:
      assert np.abs(found).max() <= np.float32(truncation)
