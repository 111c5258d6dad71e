// A caption as xmc_jax.prepare.captions.clean leaves it.

const ENTITY = /&(#\d+|#x[0-9a-f]+|[a-z]+\d*);/gi;
// And halves of surrogate pairs, and the space without a width.
const CONTROL = /[\x00-\x1f\x7f-\x9f\ud800-\udfff\u200b]/gu;
// Soft hyphens, marks of direction, word joiners, byte order marks.
const INVISIBLE = /[\xad\u061c\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]/gu;
// What Python's str.split() takes for white space; JavaScript's \s differs in a few characters.
const SPACES = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/u;

/** The words of a caption with one space between them. */
export const words = (caption) => caption.split(SPACES).filter(Boolean).join(' ');

/** A caption without HTML entities, also escaped twice, and without signs that nobody sees. */
export function clean(caption, resolve = resolveEntity) {
  for (let i = 0; i < 2; i++) caption = caption.replace(ENTITY, (entity) => resolve(entity));
  return words(caption.replace(CONTROL, ' ').replace(INVISIBLE, ''));
}

const resolveEntity = (entity) =>
  // White space at the beginning of a page would be dropped.
  new DOMParser().parseFromString(`<i>${entity}</i>`, 'text/html').documentElement.textContent;
