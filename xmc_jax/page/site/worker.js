// Loads the model and draws, beside the page's own thread.
import {Tokenizer} from './runtime/tokenizers.js';
import {captionNoise} from './noise.js';
import {encode} from './text.js';

const TOLERANCE = 2;      // gray levels by which a browser's arithmetic may differ from Python's
const PROVIDERS = {'ort': 'wasm', 'ort-gpu': 'webgpu'};      // by the file of ONNX Runtime
let facts, tokenizer, engine;      // what draws: {ort, session, provider}

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

/** What draws, by a file of ONNX Runtime; an Error if its image of `facts.check` is not `wanted`. */
async function start(graph, wanted, file, told) {
  const ort = await import(`./runtime/${versioned(`${file}.js`)}`);
  Object.assign(ort.env.wasm, {numThreads: 1,
    wasmBinary: await unpacked(`runtime/${versioned(`${file}.wasm.gz`)}`, told)});
  const provider = PROVIDERS[file], session = await ort.InferenceSession.create(
    new Uint8Array(await graph), {executionProviders: [provider], logSeverityLevel: 3});
  const made = {ort, session, provider}, levels = new Uint8Array(await wanted);
  const found = await draw(made, inputs(facts.check, 0, 0, null));
  if (levels.length !== found.length) throw new Error('its files are of different versions');
  const worst = levels.reduce((most, level, i) => Math.max(most, Math.abs(level - found[i])), 0);
  if (worst > TOLERANCE) {
    throw new Error(`its image differs from Python's by ${worst} gray levels`);
  }
  return made;
}

const versioned = (file) => `${file}?v=${facts.version}`;
const getGraph = (told) => unpacked(`model/${versioned('graph.onnx.gz')}`, told);
const getWanted = async () => (await get(`model/${versioned('check.bin')}`)).arrayBuffer();

async function load() {
  facts = await (await get('model/page.json', {cache: 'no-cache'})).json();
  tokenizer = new Tokenizer(await (await get(`model/${versioned('tokenizer.json')}`)).json(), {});
  const card = await hasCard(), {graph: most, wasm, gpu} = facts.sizes;
  let total = most + (card ? gpu : wasm), came = 0;
  const told = (bytes) => postMessage({loaded: Math.min(1, (came += bytes) / total), total});
  const graph = getGraph(told), wanted = getWanted();
  try {
    engine = await start(graph, wanted, card ? 'ort-gpu' : 'ort', told);
  } catch (error) {
    if (!card) throw error;
    total += wasm;      // the processor can do it
    engine = await start(graph, wanted, 'ort', told);
  }
  postMessage({ready: true, provider: engine.provider});
}

/** Tokens, mask and noise of an image; an Error that says what is wrong with the caption. */
const inputs = (caption, copy, seed, truncation) => ({
  ...encode(tokenizer, facts.text, caption),
  z: captionNoise(caption, copy, facts.z, seed, truncation)});

/** The image of these inputs, RGB of size x size pixels. */
async function draw({ort, session}, {tokens, mask, z}) {
  const t = facts.text.length, [image] = Object.values(await session.run({
    tokens: new ort.Tensor('int32', tokens, [1, t]), mask: new ort.Tensor('bool', mask, [1, t]),
    z: new ort.Tensor('float32', z, [1, facts.z])}));
  // The array clamps, and rounds halves to even numbers like numpy.
  return Uint8ClampedArray.from(image.data, (x) => Math.fround(x * 255));
}

async function answer({caption, count, seed, truncation}) {
  const began = performance.now();
  try {
    for (let copy = 0; copy < count; copy++) {
      const given = inputs(caption, copy, seed, truncation);
      const rgb = await draw(engine, given).catch(async (error) => {
        if (engine.provider !== 'webgpu') throw error;      // else the card may have been lost since
        engine = await start(getGraph(() => null), getWanted(), 'ort', () => null);
        return draw(engine, given);
      });
      postMessage({copy, rgb});
    }
    postMessage({seconds: (performance.now() - began) / 1000});
  } catch (error) {
    postMessage({refused: error.message});
  }
}

let queue = load().catch((error) => postMessage({failed: error.message}));
onmessage = ({data}) => { queue = queue.then(() => answer(data)); };
