// The noise of an image from (seed, caption, copy), as xmc_jax.sampling.caption_noise derives it.
import {words} from './captions.js';

const ROTATIONS = [[13, 15, 26, 6], [17, 29, 16, 24]];

/** Threefry-2x32 of twenty rounds (Salmon et al. 2011): two numbers encrypted by a key of two. */
export function threefry([k0, k1], [x0, x1]) {
  const keys = [k0, k1, k0 ^ k1 ^ 0x1bd11bda];
  x0 = (x0 + k0) | 0;
  x1 = (x1 + k1) | 0;
  for (let i = 0; i < 5; i++) {
    for (const r of ROTATIONS[i % 2]) {
      x0 = (x0 + x1) | 0;
      x1 = ((x1 << r) | (x1 >>> (32 - r))) ^ x0;
    }
    x0 = (x0 + keys[(i + 1) % 3]) | 0;
    x1 = (x1 + keys[(i + 2) % 3] + i + 1) | 0;
  }
  return [x0 >>> 0, x1 >>> 0];
}

/** jax.random.fold_in of a key and a number of 32 bits. */
export const foldIn = (key, number) => threefry(key, [0, number]);

/** jax.random.uniform: n numbers of single precision in [low, high). */
function uniform(key, n, low, high) {
  const span = Math.fround(high - low);
  return Array.from({length: n}, (_, i) => {
    const [a, b] = threefry(key, [0, i]);
    const fraction = ((a ^ b) >>> 9) / 2 ** 23;
    return Math.max(low, Math.fround(Math.fround(fraction * span) + low));
  });
}

// Polynomials of M. Giles, "Approximating the erfinv function" (2010), as XLA has them.
const CENTRE = [2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
  -0.00125372503, -0.00417768164, 0.246640727, 1.50140941];
const TAIL = [-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
  -0.0076224613, 0.00943887047, 1.00167406, 2.83297682];

function inverseErf(x) {
  const w = -Math.log1p(-Math.fround(x * x));      // rounded as there, which counts near 1
  const [coefficients, y] = w < 5 ? [CENTRE, w - 2.5] : [TAIL, Math.sqrt(w) - 3];
  return coefficients.reduce((sum, c) => sum * y + c, 0) * x;
}

/** The error function, by its series near 0 and its continued fraction elsewhere. */
export function erf(x) {
  const size = Math.abs(x);
  if (size > 6) return Math.sign(x);
  if (size < 2.5) {
    let term = x, sum = x;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
      term *= -x * x / n;
      sum += term / (2 * n + 1);
    }
    return 2 / Math.sqrt(Math.PI) * sum;
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (size + fraction);
  return Math.sign(x) * (1 - Math.exp(-size * size) / Math.sqrt(Math.PI) / (size + fraction));
}

const LOWEST = Math.fround(-1 + 2 ** -24);      // the number of single precision above -1

/**
 * Standard normal noise, Float32Array of n numbers; it belongs to the caption's words.
 * copy: how often the caption was drawn before with this seed. truncation: the largest absolute
 * value, or null.
 */
export function captionNoise(caption, copy, n, seed, truncation = null) {
  const digest = new DataView(sha256(new TextEncoder().encode(words(caption))).buffer);
  const numbers = [digest.getUint32(0, true), digest.getUint32(4, true), copy];
  const key = numbers.reduce(foldIn, [0, seed]);
  const limit = truncation === null ? null : erf(Math.fround(truncation) / Math.SQRT2);
  const [low, high] = limit === null ? [LOWEST, 1] : [Math.fround(-limit), Math.fround(limit)];
  const normal = uniform(key, n, low, high).map((u) => Math.SQRT2 * inverseErf(u));
  const most = truncation === null ? Infinity : Math.fround(truncation);
  return Float32Array.from(normal, (x) => Math.min(most, Math.max(-most, x)));
}

const primes = (count) => {
  const found = [];
  for (let n = 2; found.length < count; n++) if (found.every((p) => n % p)) found.push(n);
  return found;
};
const fractionBits = (x) => Math.floor((x % 1) * 2 ** 32);
const ROUNDS = primes(64).map((p) => fractionBits(Math.cbrt(p)));
const START = primes(8).map((p) => fractionBits(Math.sqrt(p)));

/** SHA-256 of bytes. crypto.subtle has it too, but not on pages that are served over plain http. */
export function sha256(bytes) {
  const blocks = (bytes.length + 72) >> 6;
  const padded = new DataView(new ArrayBuffer(blocks * 64));
  bytes.forEach((byte, i) => padded.setUint8(i, byte));
  padded.setUint8(bytes.length, 128);
  padded.setBigUint64(blocks * 64 - 8, BigInt(bytes.length) * 8n);
  const rotate = (x, n) => (x >>> n) | (x << (32 - n));
  const hash = START.slice(), w = new Int32Array(64);
  for (let block = 0; block < blocks; block++) {
    for (let i = 0; i < 64; i++) {
      if (i < 16) {
        w[i] = padded.getUint32(block * 64 + i * 4);
        continue;
      }
      const a = w[i - 15], b = w[i - 2];
      w[i] = w[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ (a >>> 3)) + w[i - 7]
        + (rotate(b, 17) ^ rotate(b, 19) ^ (b >>> 10));
    }
    let [a, b, c, d, e, f, g, h] = hash;
    for (let i = 0; i < 64; i++) {
      const one = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g))
        + ROUNDS[i] + w[i];
      const two = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((x, i) => { hash[i] = (hash[i] + x) | 0; });
  }
  const digest = new DataView(new ArrayBuffer(32));
  hash.forEach((x, i) => digest.setInt32(i * 4, x));
  return new Uint8Array(digest.buffer);
}
