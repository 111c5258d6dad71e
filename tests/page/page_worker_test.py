"""The worker of a page in node, with an ONNX Runtime that fails when it is told to."""
import json
import shutil
import subprocess

import pytest

from xmc_jax.page.build import SITE

pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    shutil.which('node') is None, reason='node, which runs the JavaScript, is not installed')]

# A model that draws one gray pixel. `failing` names the providers that fail: 'webgpu' or 'wasm'.
RUNTIME = """
export const env = {wasm: {}};
export class Tensor {}
export const InferenceSession = {create: async (graph, {executionProviders: [provider]}) => {
  if (failing.has(provider)) throw new Error(`no ${provider}`);
  return {release: async () => null, run: async () => {
    if (failing.has(provider)) throw new Error(`lost ${provider}`);
    return {image: {data: Float32Array.from(wrong.has(provider) ? [1, 1, 1] : [0.2, 0.2, 0.2])}};
  }};
}};
"""
STUBS = {
    'runtime/ort.js': RUNTIME, 'runtime/ort-gpu.js': RUNTIME,
    'runtime/tokenizers.js': 'export class Tokenizer {}',
    'noise.js': 'export const captionNoise = () => [];',
    'text.js': "export const encode = (tokenizer, text, caption) => {\n"
               "  if (!caption) throw new Error('Write');\n"
               '  return {tokens: [], mask: []};\n};'}
RUN = """
import {readFile} from 'node:fs/promises';
const steps = JSON.parse(await readFile('steps.json'));
const told = [], asked = [];
const globals = {onmessage: null, failing: new Set(steps.failing), wrong: new Set(steps.wrong),
  postMessage: (message) => told.push(message),
  fetch: async (path) => {
    asked.push(path);
    return new Response(await readFile(path.split('?')[0]));
  }};
Object.assign(globalThis, globals);
Object.defineProperty(globalThis, 'navigator', {value: {
  gpu: steps.card ? {requestAdapter: async () => ({info: {}})} : undefined}});
await import('./worker.js');
const until = async (key) => {
  while (!told.some((message) => key in message || 'failed' in message)) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};
await until('ready');
const first = told.splice(0);
for (const {fails, caption} of steps.draws) {
  globalThis.failing = new Set(fails);
  globalThis.onmessage({data: {caption, count: 1, seed: 0, truncation: null}});
  while (!told.some((message) => 'seconds' in message || 'refused' in message)) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  first.push(...told.splice(0));
}
console.log(JSON.stringify({told: first.map(({rgb, seconds, ...rest}) => ({...rest,
  ...(rgb ? {rgb: [...rgb]} : {}), ...(seconds === undefined ? {} : {done: true})})), asked}));
"""


@pytest.fixture
def worker(tmp_path):
  """Runs the worker: what it tells but its progress, and the addresses that it asks for."""
  shutil.copy(SITE / 'worker.js', tmp_path)
  facts = {'version': 'abc', 'check': 'a', 'text': {'length': 1}, 'z': 1,
           'sizes': {'graph': 2, 'wasm': 2, 'gpu': 2}}
  files = STUBS | {'package.json': '{"type": "module"}', 'run.js': RUN,
                   'model/page.json': json.dumps(facts), 'model/tokenizer.json': '{}',
                   'model/graph.onnx.gz': 'gg', 'runtime/ort.wasm.gz': 'ww',
                   'runtime/ort-gpu.wasm.gz': 'ww'}
  for name, text in files.items():
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)

  def run(*draws, card=False, failing=(), wrong=(), wanted=(51, 51, 51)):
    (tmp_path / 'model/check.bin').write_bytes(bytes(wanted))
    steps = {'card': card, 'failing': list(failing), 'wrong': list(wrong),
             'draws': [{'fails': list(fails), 'caption': caption} for fails, caption in draws]}
    (tmp_path / 'steps.json').write_text(json.dumps(steps))
    done = subprocess.run(['node', 'run.js'], cwd=tmp_path, text=True, capture_output=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert all(message['loaded'] <= 1 for message in found['told'] if 'loaded' in message)
    return [message for message in found['told'] if 'loaded' not in message], found['asked']
  return run


IMAGE = [{'copy': 0, 'rgb': [51, 51, 51]}, {'done': True}]


def ready(provider):
  return [{'ready': True, 'provider': provider}]


@pytest.mark.parametrize('card, bad, provider', [
    (False, {}, 'wasm'), (True, {}, 'webgpu'), (True, {'failing': ['webgpu']}, 'wasm'),
    (True, {'wrong': ['webgpu']}, 'wasm')])
def test_the_card_draws_where_it_can_and_else_the_processor(worker, card, bad, provider):
  assert worker(((), 'a cat'), card=card, **bad)[0] == ready(provider) + IMAGE


def test_a_card_that_is_lost_gives_way_to_the_processor_even_at_a_second_try(worker):
  told, _ = worker(((), 'a cat'), (('webgpu', 'wasm'), 'a cat'), (('webgpu',), 'a cat'),
                   (('webgpu',), 'a cat'), card=True)
  assert told == ready('webgpu') + IMAGE + [{'refused': 'no wasm'}] + IMAGE * 2


def test_a_caption_that_is_refused_does_not_cost_the_card(worker):
  told, asked = worker(((), ''), ((), 'a cat'), card=True)
  assert told == ready('webgpu') + [{'refused': 'Write'}] + IMAGE
  assert not [path for path in asked if path.startswith('runtime/ort.wasm')]


@pytest.mark.parametrize('options, words', [
    ({'wanted': (51,) * 6}, 'different versions'), ({'wanted': ()}, 'different versions'),
    ({'wrong': ['wasm']}, 'by 204 gray levels'), ({'failing': ['wasm']}, 'no wasm')])
def test_a_model_that_draws_something_else_does_not_begin(worker, options, words):
  (message,), _ = worker(**options)
  assert words in message['failed']


def test_files_of_the_model_and_the_runtime_have_the_version_in_their_addresses(worker):
  _, asked = worker()
  assert sorted(asked) == ['model/check.bin?v=abc', 'model/graph.onnx.gz?v=abc', 'model/page.json',
                           'model/tokenizer.json?v=abc', 'runtime/ort.wasm.gz?v=abc']
