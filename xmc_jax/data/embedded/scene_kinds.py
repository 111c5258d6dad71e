"""The objects of the scenes: emoji that show a thing with a short name."""
from __future__ import annotations

import dataclasses
import functools

from xmc_jax.data.embedded import emoji_assets

# Name of the emoji [= noun in captions] [/ irregular plural], in the order of the labels.
TABLE = """
dog, cat, mouse/mice, rabbit, cow, pig, horse, elephant, giraffe, zebra, tiger, leopard, monkey,
gorilla, kangaroo, hedgehog, camel, sloth, bat, unicorn, frog, turtle, snake, crocodile, whale,
dolphin, tropical fish=fish/fish, octopus/octopuses, crab, shark, snail, butterfly/butterflies,
honeybee=bee, lady beetle=ladybug, spider, penguin, owl, duck, parrot, flamingo, rooster, peacock,
red apple, green apple, banana, pear, lemon, tangerine=orange, peach/peaches,
strawberry/strawberries, watermelon=slice of watermelon/slices of watermelon, pineapple,
tomato/tomatoes, carrot, eggplant, broccoli=head of broccoli/heads of broccoli, hamburger, hot dog,
pizza=slice of pizza/slices of pizza, doughnut, cookie, birthday cake, cupcake,
soft ice cream=ice cream cone, croissant, pretzel, egg, mushroom, cactus/cactuses, sunflower,
tulip, rose, palm tree, evergreen tree=pine tree, deciduous tree=round tree, automobile=car,
bus/buses, taxi, police car, ambulance, fire engine, tractor, bicycle, motor scooter, sailboat,
rocket, airplane, helicopter, soccer ball, basketball, balloon, wrapped gift=gift, guitar, drum,
trumpet, umbrella, top hat, crown, backpack, t-shirt, key, hammer, bell, light bulb, candle,
alarm clock, chair, door, house, castle, tent, star, snowman/snowmen, teddy bear
"""


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of object: the noun, its plural, and the index of its emoji in the records."""
  noun: str
  plural: str
  image: int


@functools.lru_cache(maxsize=1)
def kinds() -> tuple[Kind, ...]:
  """Returns all kinds, in the order of the labels."""
  numbers = {record['name']: i for i, record in enumerate(emoji_assets.records())}
  found = []
  for entry in TABLE.replace('\n', ' ').split(','):
    left, _, plural = entry.strip().partition('/')
    name, _, noun = left.partition('=')
    noun = noun or name
    found.append(Kind(noun, plural or f'{noun}s', numbers[name]))
  return tuple(found)
