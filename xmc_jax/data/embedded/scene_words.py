"""The captions of a scene: what it shows, how many, how large, where, and on what background."""
from __future__ import annotations

from xmc_jax.data.embedded.scene_kinds import kinds
from xmc_jax.data.embedded.scene_layout import SIZES, Group, Scene

NUMBERS = ('', '', 'two', 'three', 'four')
GAP = 0.15  # minimum distance of the centers for a relation, as a fraction of the side
OPPOSITE = {'to the left of': 'to the right of', 'to the right of': 'to the left of',
            'above': 'below', 'below': 'above'}
PLACES = (('in the top left corner', 'at the top', 'in the top right corner'),
          ('on the left', 'in the middle', 'on the right'),
          ('in the bottom left corner', 'at the bottom', 'in the bottom right corner'))


def write_captions(scene: Scene) -> tuple[str, ...]:
  """Returns five captions of the scene, all different.

  In this order: places and sizes of the objects; places from the other object's side; objects and
  background; objects and sizes; places, sizes and background.
  """
  groups = scene.groups
  background = f'on {_background(scene)}'
  if len(groups) == 1:
    only = groups[0]
    where = f' {place(only)}' if len(only.boxes) == 1 else ''
    first, second = f'{_sized(only)}{where}', f'there {_is(groups)} {_plain(only)}{where}'
    if not where:
      first = f'{_sized(only)} and nothing else'
  else:
    first, second = _related(groups, _sized), _related(groups[1::-1] + groups[2:], _plain)
    if first == second:
      second = f'there {_is(groups)} {second}'
  return (first, second, f'{_listed([_plain(g) for g in groups])} {background}',
          f'a picture of {_listed([_sized(g) for g in groups[::-1]])}', f'{first}, {background}')


def relation(a: Group, b: Group) -> str | None:
  """Returns how all objects of `a` are placed relative to all of `b`; None if no word fits."""
  ax, ay = _centers(a)
  bx, by = _centers(b)
  gaps = {'to the left of': min(bx) - max(ax), 'to the right of': min(ax) - max(bx),
          'above': min(by) - max(ay), 'below': min(ay) - max(by)}
  word = max(gaps, key=gaps.__getitem__)
  return word if gaps[word] >= GAP else None


def place(group: Group) -> str:
  """Returns the place of the center of a group's first object, by thirds of the image."""
  (x, *_), (y, *_) = _centers(group)
  return PLACES[min(int(3 * y), 2)][min(int(3 * x), 2)]


def _centers(group: Group) -> tuple[list[float], list[float]]:
  return ([(box[0] + box[2]) / 2 for box in group.boxes],
          [(box[1] + box[3]) / 2 for box in group.boxes])


def _related(groups: tuple[Group, ...], describe) -> str:
  """Describes the relation of the first two groups, then the others; or lists all groups."""
  word = relation(*groups[:2])
  if word is None:
    return _listed([describe(group) for group in groups])
  text = f'{describe(groups[0])} {word} {describe(groups[1])}'
  return f'{text}, and {_listed([describe(g) for g in groups[2:]])}' if groups[2:] else text


def _plain(group: Group) -> str:
  """"a dog", "two dogs"."""
  return _counted(group, '')


def _sized(group: Group) -> str:
  """"a small dog", "two large dogs"; medium is omitted."""
  size = SIZES[group.size]
  return _counted(group, '' if size == 'medium' else f'{size} ')


def _counted(group: Group, adjective: str) -> str:
  kind, count = kinds()[group.kind], len(group.boxes)
  if count == 1:
    return _with_article(adjective + kind.noun)
  return f'{NUMBERS[count]} {adjective}{kind.plural}'


def _with_article(words: str) -> str:
  an = words[0] in 'aeiou' and not words.startswith('uni')
  return f"{'an' if an else 'a'} {words}"


def _is(groups: tuple[Group, ...]) -> str:
  return 'is' if len(groups[0].boxes) == 1 else 'are'


def _listed(words: list[str]) -> str:
  return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _background(scene: Scene) -> str:
  if len(scene.background) == 1:
    return f'{_with_article(scene.background[0])} background'
  return 'a background fading from {} to {}'.format(*scene.background)
