"""Fake runs for `xmc report`, and its reports read back by an HTML parser."""
import dataclasses
import html.parser
import json
import re

import numpy as np

from xmc_jax.methods import xmc_gan
from xmc_jax.utils import image_io

VOID = {'meta', 'img', 'br', 'hr', 'link', 'input'}
SCORE = {'metric': 'FD-lite0', 'value': 12.5, 'spread': None, 'time': 100.0, 'step': 20,
         'weights': 'averaged', 'protocol': 'offline', 'network': 'efficientnet-lite0',
         'resize': 'antialiased_bilinear', 'distance': 'FD-lite0', 'weights_sha256': 'ab' * 32,
         'data': 'emoji', 'size': 32, 'fakes': 1000, 'reals': 191, 'reference': 'emoji/heldout',
         'reference_sha256': 'cd' * 32, 'captions_sha256': 'ef' * 32, 'seed': 0,
         'differs': ['1,000 fakes instead of 30,000'], 'commit': '0123456789abcdef',
         'device': 'TPU v4', 'devices': 4, 'xmc_jax': '0.1.0'}
COCO = {'data': 'coco2014', 'size': 256, 'protocol': 'tf2015', 'metric': 'FID', 'differs': []}


@dataclasses.dataclass
class Node:
  name: str
  attributes: dict
  inside: list

  def find(self, name, **wanted):
    """All elements of a name below this one; `class_` is one of its classes."""
    found = []
    for child in self.inside:
      if isinstance(child, Node):
        classes = (child.attributes.get('class') or '').split()
        if child.name == name and all(
            value in classes if key == 'class_' else child.attributes.get(key) == value
            for key, value in wanted.items()):
          found.append(child)
        found += child.find(name, **wanted)
    return found

  def text(self):
    parts = (child if isinstance(child, str) else child.text() for child in self.inside
             if isinstance(child, str) or child.name not in ('style', 'script'))
    return ' '.join(' '.join(parts).split())

  def every(self):
    yield self
    for child in self.inside:
      if isinstance(child, Node):
        yield from child.every()


class Tree(html.parser.HTMLParser):
  """Builds nodes; fails at a tag that is closed wrongly or left open."""

  def __init__(self, markup):
    super().__init__()
    self.root = Node('root', {}, [])
    self._open = [self.root]
    self.feed(markup)
    self.close()
    assert self._open == [self.root], 'a tag is left open'

  def handle_starttag(self, tag, attrs):
    assert len(dict(attrs)) == len(attrs), f'an attribute of {tag} comes twice'
    node = Node(tag, dict(attrs), [])
    self._open[-1].inside.append(node)
    if tag not in VOID:
      self._open.append(node)

  def handle_endtag(self, tag):
    assert self._open.pop().name == tag

  def handle_data(self, data):
    self._open[-1].inside.append(data)


def parse(path):
  return Tree(path.read_text()).root


def metrics(steps=(1, 10, 20), **more):
  return [{'step': step, 'time': 1000.0 + step, 'joint/g_loss': 20.0 - step / 4,
           'joint/g/hinge': -step / 8, 'joint/d_loss': 3.0, 'joint/d/hinge': 3.0,
           'joint/g_grad_max': 0.5, 'joint/accuracy/real': 0.75,
           **({'images_per_second': 64.0, 'seconds_per_step': 0.5, 'waiting_for_data': 0.02}
              if step > 1 else {}), **more} for step in steps]


def grid(seed):
  images = np.random.default_rng(seed).random((16, 32, 32, 3), np.float32)
  return image_io.grid(images, [f'caption {i}' for i in range(16)], columns=8)


def make(folder, lines=None, scores=(), stages=(), settings=None):
  """The folder of a run after training and evaluation."""
  folder.mkdir(parents=True)
  chosen = json.loads(xmc_gan.config().to_json_best_effort())
  chosen['steps'], chosen['model']['size'], chosen['grid'] = 20, 32, 16
  chosen |= settings or {}
  (folder / 'config.json').write_text(json.dumps(chosen))
  write = lambda name, found: (folder / name).write_text(
      ''.join(json.dumps(line) + '\n' for line in found))
  write('metrics.jsonl', metrics() if lines is None else lines)
  if scores:
    write('scores.jsonl', [SCORE | score for score in scores])
  for step in stages:
    image_io.save_png(folder / 'images' / f'heldout_{step:08d}.png', grid(step))
  return folder


def facts(root):
  return {node.find('dt')[0].text(): node.find('dd')[0].text()
          for node in root.find('dl', class_='facts')[0].find('div')}


def rows(table):
  return [[cell.text() for cell in row.find('td')] for row in table.find('tr')[1:]]


def score_tables(root):
  return [t for t in root.find('table') if t.find('th')[0].text() == 'Metric'
          and t.find('th')[2].text() == 'Weights']


def chart(root, title):
  return next(f for f in root.find('figure', class_='chart')
              if f.find('figcaption')[0].inside[0].strip() == title)


def legend(figure):
  return {li.find('span')[0].text(): li.find('b')[0].text() for li in figure.find('li')}


def drawn(figure, i=0, log=False, kind='line'):
  """Steps and values of a line of a chart, read back from its path through the axis ticks."""
  groups = {node.attributes['id'].partition('-')[2]: node
            for node in figure.find('g') if 'id' in node.attributes}
  points = _points(groups[f'{kind}{i}'])
  found = []
  for axis in (0, 1):
    ticks = [node for name, node in groups.items() if name.startswith(('xtick', 'ytick')[axis])]
    texts = [tick.text().replace(',', '').replace('\u2212', '-') for tick in ticks]
    values = np.array(texts, float)
    if axis == 0:
      pixels = [float(tick.find('use')[0].attributes['x']) for tick in ticks]
    else:
      pixels = [_points(tick)[0, 1] for tick in ticks]
    logarithmic = log and axis == 1
    line = np.polyfit(pixels, np.log(values) if logarithmic else values, 1)
    read = np.polyval(line, points[:, axis])
    found.append(np.exp(read) if logarithmic else read)
  return found


def _points(node):
  path = next(p for p in node.find('path') if 'clip-path' in p.attributes)
  return np.array(re.findall(r'[ML] (\S+) (\S+)', path.attributes['d']), float)
