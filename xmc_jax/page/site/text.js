// A caption to token numbers, with the refusals of xmc_jax.data.text.Tokenizer.check_captions.

const isLetter = /\p{L}/u, isLatin = /\p{Script=Latin}|\u00aa|\u00ba/u;

/** {tokens, mask} of t numbers each; an Error whose message is for the visitor if it cannot be. */
export function encode(tokenizer, {length, script, end, unknown}, caption) {
  const {ids} = tokenizer.encode(caption);
  if (ids.length <= 2) throw new Error('Write what the image should show.');
  const foreign = script === 'latin'
    ? [...caption].find((letter) => isLetter.test(letter) && !isLatin.test(letter)) : undefined;
  if (foreign) {
    throw new Error(`The letter “${foreign}” is not Latin. Write in English, the language of the `
      + 'text encoder.');
  }
  if (unknown !== null && ids.includes(unknown)) {
    throw new Error('The text encoder does not know a sign of this caption, perhaps an emoji. '
      + 'Leave it out or use other words.');
  }
  if (ids.length > length) {
    throw new Error(`The caption has ${ids.length} tokens, and the model takes ${length}. Shorten `
      + 'it.');
  }
  const tokens = new Int32Array(length), mask = new Uint8Array(length);
  tokens.set(ids);
  mask.fill(1, 0, ids.length);
  return {tokens, mask};
}
