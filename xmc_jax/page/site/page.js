// The controls of the page. What takes time is in worker.js.
import {clean} from './captions.js';

const $ = (id) => document.getElementById(id);
const MOST_REMEMBERED = 20, MOST_SEED = 2 ** 32 - 1, STORE = `xmc_jax ${location.pathname}`;
const ENTRY = ['caption', 'count', 'seed', 'truncation', 'image'];      // of the history
const worker = new Worker('worker.js', {type: 'module'});
let facts, ready = false, current = null, past = stored();
say('Loading the model …');      // in place of what stays where this does not run

function say(text, bad = false) {
  if ($('status').textContent === text) return;      // screen readers would read it again
  $('status').textContent = text;
  $('status').classList.toggle('bad', bad);
}

function element(name, properties, ...inside) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...inside);
  return made;
}

/** The settings of the form; truncation is null at the right end of its slider. */
function settings() {
  const truncation = $('truncation');
  return {caption: clean($('caption').value), count: Number($('count').value),
    seed: Number($('seed').value),
    truncation: truncation.value === truncation.max ? null : Number(truncation.value)};
}

function fill({caption, count, seed, truncation}) {
  $('caption').value = caption;
  $('count').value = count;
  $('seed').value = seed;
  $('truncation').value = truncation ?? $('truncation').max;
  show();
}

function show() {
  const {count, truncation} = settings();
  $('count_shown').value = count;
  $('truncation_shown').value = truncation ?? 'off';
  $('truncation').setAttribute('aria-valuetext', truncation ?? 'off');
}

function draw() {
  current = settings();
  $('images').replaceChildren();
  $('images').setAttribute('aria-busy', 'true');
  $('actions').hidden = true;
  $('draw').setAttribute('aria-disabled', 'true');      // disabled, it would lose the focus
  say('Drawing …');
  worker.postMessage(current);
}

const fileName = (copy) => [
  current.caption.toLowerCase().replace(/[^a-z0-9]+/g, '_').slice(0, 60), current.seed, copy,
].join('_') + '.png';

function addImage(copy, rgb) {
  const {size} = facts, pixels = new ImageData(size, size);
  for (let i = 0; i < size * size; i++) {
    pixels.data.set(rgb.subarray(3 * i, 3 * i + 3), 4 * i);
    pixels.data[4 * i + 3] = 255;
  }
  const canvas = element('canvas', {width: size, height: size});
  canvas.getContext('2d').putImageData(pixels, 0, 0);
  const what = `${current.caption}, image ${copy + 1}`;
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', what);
  $('images').append(element('a', {href: canvas.toDataURL(), download: fileName(copy),
    title: 'Download this image'}, canvas));
}

function saveAll() {
  const found = [...document.querySelectorAll('#images canvas')], {size} = facts;
  const columns = Math.ceil(Math.sqrt(found.length)), rows = Math.ceil(found.length / columns);
  const sheet = element('canvas', {width: columns * size, height: rows * size});
  found.forEach((canvas, i) => sheet.getContext('2d').drawImage(
    canvas, (i % columns) * size, Math.floor(i / columns) * size));
  element('a', {href: sheet.toDataURL(), download: fileName('all')}).click();
}

function stored() {
  try {
    const list = JSON.parse(localStorage.getItem(STORE));
    return Array.isArray(list) ? list.filter(
      (entry) => entry && ENTRY.every((key) => key in entry)) : [];
  } catch {
    return [];      // storage is switched off, or holds something else
  }
}

function remember(list) {
  past = list;
  // Where not all of it fits, the newest of it; where nothing does, it is of this visit alone.
  for (let count = past.length; count >= 0; count--) {
    try {
      localStorage.setItem(STORE, JSON.stringify(past.slice(0, count)));
      break;
    } catch { /* full, or switched off */ }
  }
  showHistory();
}

function showHistory() {
  const focused = $('past').contains(document.activeElement);
  $('past').hidden = !past.length;
  $('history').replaceChildren(...past.map((entry) => {
    const what = `${entry.count} × seed ${entry.seed}`
      + (entry.truncation === null ? '' : `, truncation ${entry.truncation}`);
    const button = element('button', {type: 'button', title: `${what}: draw again`},
      element('img', {src: entry.image, alt: ''}), entry.caption);
    button.onclick = () => {
      fill(entry);
      $('form').requestSubmit();
    };
    return button;
  }));
  if (focused) ($('history').firstElementChild ?? $('caption')).focus();
}

function done(seconds) {
  const entry = {...current};
  const same = (other) => ['caption', 'count', 'seed', 'truncation'].every(
    (key) => other[key] === entry[key]);
  entry.image = $('images').querySelector('canvas').toDataURL();
  remember([entry, ...past.filter((other) => !same(other))].slice(0, MOST_REMEMBERED));
  $('actions').hidden = false;
  say(`${entry.count} ${entry.count === 1 ? 'image' : 'images'} in ${seconds.toFixed(1)} s.`);
}

worker.onmessage = ({data}) => {
  if ('loaded' in data) {
    $('progress').value = data.loaded;
    say(data.loaded < 1 ? `Loading the model, ${(data.total / 1e6).toFixed(0)} MB …`
      : 'Starting the model …');
  } else if (data.ready) {
    ready = true;
    $('progress').hidden = true;
    $('draw').disabled = false;
    say(data.provider === 'webgpu' ? 'Ready, on the graphics card.' : 'Ready.');
    document.documentElement.dataset.ready = data.provider;
  } else if (data.failed) {
    $('progress').hidden = true;
    say(`The model cannot run here: ${data.failed}.`, true);
  } else if (data.rgb) {
    addImage(data.copy, data.rgb);
  } else {
    $('images').removeAttribute('aria-busy');
    $('draw').removeAttribute('aria-disabled');
    if (data.refused) say(data.refused, true);
    else done(data.seconds);
  }
};
worker.onerror = () => {
  $('progress').hidden = true;
  say('The model cannot run here: this browser is too old, or a file of the page is missing.', true);
};

$('form').onsubmit = (event) => {
  event.preventDefault();
  if (ready && facts && !$('draw').hasAttribute('aria-disabled')) draw();
};
$('form').oninput = show;
$('caption').onkeydown = (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $('form').requestSubmit();
};
$('dice').onclick = () => { $('seed').value = Math.floor(Math.random() * (MOST_SEED + 1)); };
$('save').onclick = saveAll;
$('forget').onclick = () => remember([]);
addEventListener('storage', ({key}) => {      // another tab has drawn, or cleared the history
  if (key !== STORE && key !== null) return;
  past = stored();
  showHistory();
});
$('draw').disabled = true;

facts = await (await fetch('model/page.json', {cache: 'no-cache'})).json();
document.title = `${facts.name}: text to image`;
$('name').textContent = facts.name;
$('facts').textContent = `${facts.method} trained on ${facts.data}, step `
  + `${facts.step.toLocaleString('en')}, ${facts.size} × ${facts.size} px. The same caption, seed `
  + 'and truncation give the same images in Python, with xmc_jax.';
$('tries').append(...facts.captions.map((caption) => {
  const button = element('button', {type: 'button', textContent: caption});
  button.onclick = () => {
    $('caption').value = caption;
    $('form').requestSubmit();
  };
  return button;
}));
if (!$('caption').value) $('caption').value = facts.captions[0] ?? '';
showHistory();
show();
