// Loads the model and draws, beside the page's own thread.
import {Tokenizer} from './runtime/tokenizers.js';
import {captionNoise} from './noise.js';
import {encode} from './text.js';

const TOLERANCE = 2;      // grey levels by which a browser's arithmetic may differ from Python's
let facts, tokenizer, ort, session, provider;

const PROVIDERS = {'ort': 'wasm', 'ort-gpu': 'webgpu'};      // by the file of ONNX Runtime

const get = async (path, options) => {
  const answer = await fetch(path, options);
  if (!answer.ok) throw new Error(`${path}: the server says ${answer.status}`);
  return answer;
};

/** The bytes of a compressed file; `told` gets the number of those that came. */
async function unpacked(path, told) {
  const reader = (await get(path)).body.getReader(), parts = [];
  for (let part; !(part = await reader.read()).done;) {
    parts.push(part.value);
    told(part.value.length);
  }
  const blob = new Blob(parts);
  const head = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
  if (head[0] !== 0x1f || head[1] !== 0x8b) return blob.arrayBuffer();   // the server unpacked it
  return new Response(blob.stream().pipeThrough(new DecompressionStream('gzip'))).arrayBuffer();
}

/** Whether there is a graphics card that WebGPU can use, and the page has the files for it. */
async function hasCard() {
  if (!facts.sizes.gpu || !navigator.gpu) return false;
  const adapter = await navigator.gpu.requestAdapter().catch(() => null);
  return Boolean(adapter) && !adapter.info?.isFallbackAdapter;      // else it is the processor
}

/** Loads ONNX Runtime and the graph; an Error if its image of `facts.check` is not `wanted`. */
async function start(graph, wanted, file, told) {
  ort = await import(`./runtime/${file}.js`);
  Object.assign(ort.env.wasm, {
    wasmBinary: await unpacked(`runtime/${file}.wasm.gz`, told), numThreads: 1});
  provider = PROVIDERS[file];
  session = await ort.InferenceSession.create(new Uint8Array(await graph), {
    executionProviders: [provider], logSeverityLevel: 3});
  const found = await draw(inputs(facts.check, 0, 0, null)), levels = new Uint8Array(await wanted);
  if (levels.length !== found.length) throw new Error('its files are of different versions');
  const worst = levels.reduce((most, level, i) => Math.max(most, Math.abs(level - found[i])), 0);
  if (!(worst <= TOLERANCE)) {
    throw new Error(`this browser draws ${worst} grey levels beside what Python draws`);
  }
  postMessage({ready: true, worst, provider});
}

/** Loads all again for the processor, where the graphics card fails. */
async function startAgain(told) {
  await session?.release().catch(() => null);
  session = null;
  return start(unpacked(model('graph.onnx.gz'), told), check(), 'ort', told);
}

const model = (file) => `model/${file}?v=${facts.version}`;
const check = async () => (await get(model('check.bin'))).arrayBuffer();

async function load() {
  facts = await (await get('model/page.json', {cache: 'no-cache'})).json();
  tokenizer = new Tokenizer(await (await get(model('tokenizer.json'))).json(), {});
  const card = await hasCard(), {graph: most, wasm, gpu} = facts.sizes;
  const total = most + (card ? gpu : wasm);
  let came = 0;
  const told = (bytes) => postMessage({loaded: Math.min(1, (came += bytes) / total), total});
  const start_on = (file) => start(unpacked(model('graph.onnx.gz'), told), check(), file, told);
  return card ? start_on('ort-gpu').catch(() => startAgain(told)) : start_on('ort');
}

/** Tokens, mask and noise of an image; an Error that says what is wrong with the caption. */
const inputs = (caption, copy, seed, truncation) => ({
  ...encode(tokenizer, facts.text, caption),
  z: captionNoise(caption, copy, facts.z, seed, truncation)});

/** The image of these inputs, RGB of size x size pixels. */
async function draw({tokens, mask, z}) {
  const t = facts.text.length, [image] = Object.values(await session.run({
    tokens: new ort.Tensor('int32', tokens, [1, t]), mask: new ort.Tensor('bool', mask, [1, t]),
    z: new ort.Tensor('float32', z, [1, facts.z])}));
  // The array clamps, and rounds halves to even numbers like numpy.
  return Uint8ClampedArray.from(image.data, (x) => Math.fround(x * 255));
}

async function answer({caption, count, seed, truncation}) {
  const start = performance.now();
  try {
    for (let copy = 0; copy < count; copy++) {
      const given = inputs(caption, copy, seed, truncation);
      const rgb = await draw(given).catch(async (error) => {
        if (provider !== 'webgpu') throw error;      // else the card may have been lost since
        await startAgain(() => null);
        return draw(given);
      });
      postMessage({copy, rgb});
    }
    postMessage({seconds: (performance.now() - start) / 1000});
  } catch (error) {
    postMessage({refused: error.message});
  }
}

let queue = load().catch((error) => postMessage({failed: error.message}));
onmessage = ({data}) => { queue = queue.then(() => answer(data)); };
