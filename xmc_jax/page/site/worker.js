// Loads the model and draws, beside the page's own thread.
import {Tokenizer} from './runtime/tokenizers.mjs';
import {captionNoise} from './noise.js';
import {encode} from './text.js';

const TOLERANCE = 2;      // grey levels by which a browser's arithmetic may differ from Python's
let facts, tokenizer, ort, session;

const get = async (path) => {
  const answer = await fetch(path);
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
async function start(graph, wanted, file, provider, told) {
  ort = await import(`./runtime/${file}.mjs`);
  Object.assign(ort.env.wasm, {
    wasmBinary: await unpacked(`runtime/${file}.wasm.gz`, told), numThreads: 1});
  session = await ort.InferenceSession.create(new Uint8Array(await graph), {
    executionProviders: [provider], logSeverityLevel: 3});
  const found = await draw(facts.check, 0, 0, null);
  const worst = new Uint8Array(await wanted).reduce(
    (most, level, i) => Math.max(most, Math.abs(level - found[i])), 0);
  if (worst > TOLERANCE) {
    throw new Error(`this browser draws ${worst} grey levels beside what Python draws`);
  }
  postMessage({ready: true, worst, provider});
}

async function load() {
  facts = await (await get('model/page.json')).json();
  tokenizer = new Tokenizer(await (await get('model/tokenizer.json')).json(), {});
  const card = await hasCard(), {graph: most, wasm, gpu} = facts.sizes;
  const total = most + (card ? gpu : wasm);
  let came = 0;
  const told = (bytes) => postMessage({loaded: Math.min(1, (came += bytes) / total), total});
  const graph = unpacked('model/graph.onnx.gz', told);
  const wanted = get('model/check.bin').then((answer) => answer.arrayBuffer());
  if (card) {
    try {
      return await start(graph, wanted, 'ort-gpu', 'webgpu', told);
    } catch { /* the processor can do it */ }
  }
  return start(graph, wanted, 'ort', 'wasm', told);
}

/** The image of a caption, RGB of size x size pixels. */
async function draw(caption, copy, seed, truncation) {
  const {tokens, mask} = encode(tokenizer, facts.text, caption);
  const z = captionNoise(caption, copy, facts.z, seed, truncation);
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
      postMessage({copy, rgb: await draw(caption, copy, seed, truncation)});
    }
    postMessage({seconds: (performance.now() - start) / 1000});
  } catch (error) {
    postMessage({refused: error.message});
  }
}

let queue = load().catch((error) => postMessage({failed: error.message}));
onmessage = ({data}) => { queue = queue.then(() => answer(data)); };
