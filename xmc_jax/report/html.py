"""What a page of one file is made of: elements, numbers, and how they look.

Elements are xml.etree's, so that every text is escaped by the one serialiser and no tag is left
open. The page asks nothing of the network: style, script and images are inside.
"""
from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

Element = ET.Element
Inside = ET.Element | str | None

_UNPRINTABLE = re.compile('[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]')


def tag(name: str, /, *inside: Inside, **attributes: object) -> Element:
  """An element; a text inside is escaped when it is written, None is left out.

  Attributes are written as in Python: `class_` for class, `data_x` for data-x; None is left out.
  """
  element = Element(name, {key.rstrip('_').replace('_', '-'): _printable(str(value))
                           for key, value in attributes.items() if value is not None})
  for part in inside:
    if isinstance(part, Element):
      element.append(part)
    elif part is not None and len(element):
      element[-1].tail = (element[-1].tail or '') + _printable(part)
    elif part is not None:
      element.text = (element.text or '') + _printable(part)
  return element


def table(head: Sequence[Inside], rows: Sequence[Sequence[Inside | tuple]]) -> Element:
  """A table that scrolls sideways where it is too wide; a cell (class, inside...) has a class."""
  def cell(kind: str, content: Inside | tuple) -> Element:
    if isinstance(content, tuple):
      return tag(kind, *content[1:], class_=content[0])
    return tag(kind, content)

  row = lambda kind, cells: tag('tr', *(cell(kind, content) for content in cells))
  return tag('div', tag('table', tag('thead', row('th', head)),
                        tag('tbody', *(row('td', cells) for cells in rows))), class_='wide')


def document(title: str, *inside: Inside) -> str:
  """A whole page in HTML 5."""
  head = tag('head', tag('meta', charset='utf-8'), tag('title', title),
             tag('meta', name='viewport', content='width=device-width, initial-scale=1'),
             tag('style', _STYLE))
  body = tag('body', tag('main', *inside), tag('script', _SCRIPT))
  page = ET.tostring(tag('html', head, body, lang='en'), encoding='unicode', method='html')
  return f'<!DOCTYPE html>\n{page}\n'


def number(value: float) -> str:
  """Four digits: '0.02345', '12.35', '1,235'; no digit more than the table can use."""
  return f'{value:,.0f}' if abs(value) >= 1000 else f'{value:.4g}'


def _printable(text: str) -> str:
  """Without what no page may hold: control characters and lone surrogates."""
  return _UNPRINTABLE.sub('\ufffd', text)


# The colours of the lines can be told apart by colour-blind readers, on white and on black.
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6470; --page: #fff; --card: #f5f6f8;
  --rule: #d5d9df; --bad: #b3261e; --mark: #fff1c2; --c0: #0072b2; --c1: #d55e00; --c2: #00876c;
  --c3: #a8498c; --c4: #8a6d00; --c5: #2f9fd8; --c6: #6b4fbb; --c7: #4b5563; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --soft: #9aa4b0; --page: #14171b; --card: #1d2126; --rule: #373e47;
    --bad: #ff8a80; --mark: #4a3d10; --c0: #56b4e9; --c1: #ff9250; --c2: #35c9a5; --c3: #e39acb;
    --c4: #e8cf4a; --c5: #9ad7ff; --c6: #b7a4ff; --c7: #c2c9d2; } }
* { box-sizing: border-box; }
html { font-size: 15px; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif; overflow-wrap: anywhere; }
main { max-width: 1280px; margin: 0 auto; padding: 20px 20px 60px; }
h1 { font-size: 1.75em; margin: 0 0 12px; line-height: 1.25; }
h2 { font-size: 1.33em; margin: 40px 0 10px; padding-top: 10px; border-top: 1px solid var(--rule); }
h3 { font-size: 1.07em; margin: 24px 0 6px; }
p { margin: 6px 0; max-width: 90ch; }
small, .soft { color: var(--soft); font-size: .87rem; font-weight: normal; }
.bad { color: var(--bad); font-weight: 600; }
p.bad { border: 2px solid; border-radius: 6px; padding: 8px 12px; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr));
  gap: 8px 20px; margin: 0; }
.facts div { border-top: 1px solid var(--rule); padding-top: 3px; }
.facts dt { color: var(--soft); font-size: .87rem; }
.facts dd { margin: 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 360px), 1fr));
  gap: 14px; }
figure { margin: 0; }
.chart { background: var(--card); border-radius: 6px; padding: 10px 12px 4px; min-width: 0;
  display: flex; flex-direction: column; break-inside: avoid; }
.chart figcaption { font-weight: 600; display: flex; flex-wrap: wrap; gap: 0 8px;
  align-items: baseline; }
.chart svg { width: 100%; height: auto; display: block; margin-top: auto; touch-action: pan-y; }
.at { margin-left: auto; }
.legend { list-style: none; margin: 2px 0; padding: 0; display: flex; flex-wrap: wrap;
  gap: 0 14px; font-size: .87rem; }
.legend li { display: flex; align-items: center; gap: 5px; }
.legend b { font-weight: 600; font-variant-numeric: tabular-nums; }
.legend svg { width: 18px; height: 10px; flex: none; margin: 0; }
svg text { font: 11px system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: var(--soft); }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .cross { stroke: var(--soft); stroke-width: 1; visibility: hidden; }
svg polyline { fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linejoin: round; }
svg .raw { stroke-width: 1; opacity: .3; }
svg .dash { stroke-dasharray: 5 3; }
svg circle { fill: currentColor; }
svg .spread { stroke: currentColor; stroke-width: 1.2; opacity: .6; }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); }
.c3 { color: var(--c3); } .c4 { color: var(--c4); } .c5 { color: var(--c5); }
.c6 { color: var(--c6); } .c7 { color: var(--c7); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 6px 0; }
th, td { text-align: left; padding: 4px 16px 4px 0; border-bottom: 1px solid var(--rule);
  vertical-align: top; overflow-wrap: normal; }
th { color: var(--soft); font-weight: normal; font-size: .87rem; vertical-align: bottom; }
.mark { font-weight: 600; } td.mark { background: var(--mark); padding-left: 6px; }
.keys { columns: 330px; list-style: none; padding: 0; margin: 6px 0; font-size: .93rem; }
.keys li { break-inside: avoid; }
code { font: .87rem ui-monospace, 'DejaVu Sans Mono', monospace; }
.grid-image img { max-width: 100%; height: auto; display: block; background: #fff; }
.stages { overflow-x: auto; }
.stages div { display: flex; align-items: center; gap: 10px; margin: 0 0 4px; min-width: 560px;
  break-inside: avoid; }
.stages span { flex: 0 0 90px; color: var(--soft); font-size: .87rem; }
.stages img { min-width: 0; max-width: calc(100% - 100px); height: auto; display: block; }
@media (max-width: 600px) { main { padding: 12px 12px 40px; } h1 { font-size: 1.5em; }
  .stages span { flex-basis: 58px; } .stages img { max-width: calc(100% - 68px); }
  th, td { padding-right: 10px; } }
@media print { main { max-width: none; padding: 0; } html { font-size: 11px; }
  .charts { grid-template-columns: repeat(3, 1fr); gap: 8px; } .wide, .stages { overflow: visible; }
  h2, h3, h2 + p { break-after: avoid; } tr { break-inside: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""

# Follows the pointer: the legend then shows the values of the nearest step. Pixels of a line are
# read back through the axes, so that no number is on the page twice.
_SCRIPT = """
for (const svg of document.querySelectorAll('svg[data-x]')) {
  const axis = name => svg.dataset[name].split(' ').map(Number);
  const back = ([v0, v1, p0, p1, log], p) => {
    const share = (p - p0) / (p1 - p0);
    return log ? v0 * (v1 / v0) ** share : v0 + (v1 - v0) * share;
  };
  const figure = svg.closest('figure'), at = figure.querySelector('.at');
  const cross = svg.querySelector('.cross');
  const lines = [...svg.querySelectorAll('.line')].map(
    line => line.getAttribute('points').split(' ').map(pair => pair.split(',').map(Number)));
  const cells = [...figure.querySelectorAll('.legend b')];
  const last = cells.map(cell => cell.textContent);
  const nearest = (points, x) => points.reduce(
    (best, p) => Math.abs(p[0] - x) < Math.abs(best[0] - x) ? p : best);
  svg.addEventListener('pointermove', event => {
    const x = new DOMPoint(event.clientX, event.clientY)
      .matrixTransform(svg.getScreenCTM().inverse()).x;
    const all = lines.flat();
    const column = nearest(all, x)[0];
    cross.setAttribute('x1', column); cross.setAttribute('x2', column);
    cross.style.visibility = 'visible';
    at.textContent = 'step ' + Math.round(back(axis('x'), column)).toLocaleString('en');
    lines.forEach((points, i) => {
      const point = nearest(points, column);
      cells[i].textContent = Math.abs(point[0] - column) < 1
        ? Number(back(axis('y'), point[1]).toPrecision(3)).toString() : '\\u2013';
    });
  });
  svg.addEventListener('pointerleave', () => {
    cross.style.visibility = 'hidden'; at.textContent = '';
    cells.forEach((cell, i) => { cell.textContent = last[i]; });
  });
}
"""
