"""English for the emoji's names: articles, plain names and the subgroups in words.

CLDR's names are labels ("man: red hair", "flag: Chad"); captions want noun phrases ("a man with red
hair", "the flag of Chad"). Used by build_emoji.py alone.
"""
from __future__ import annotations

import re

KINDS = {
    'face-smiling': 'a happy face', 'face-affection': 'a loving face',
    'face-tongue': 'a playful face', 'face-hand': 'a face with a hand',
    'face-neutral-skeptical': 'a doubtful face', 'face-sleepy': 'a sleepy face',
    'face-unwell': 'a sick face', 'face-hat': 'a face with a hat',
    'face-glasses': 'a face with glasses', 'face-concerned': 'a sad or worried face',
    'face-negative': 'an angry or evil face', 'face-costume': 'a fantasy figure',
    'cat-face': 'the face of a cat', 'monkey-face': 'the face of a monkey',
    'heart': 'a sign of love', 'emotion': 'a comic sign', 'hand-fingers-open': 'an open hand',
    'hand-fingers-partial': 'a hand sign', 'hand-single-finger': 'a pointing hand',
    'hand-fingers-closed': 'a closed hand', 'hands': 'a pair of hands',
    'hand-prop': 'a hand at work', 'body-parts': 'a part of the body', 'person': "a person's face",
    'person-gesture': 'a person making a gesture', 'person-role': 'a person in a role',
    'person-fantasy': 'a figure of fantasy', 'person-activity': 'a person doing something',
    'person-sport': 'a person doing sport', 'person-resting': 'a person at rest',
    'family': 'people who belong together', 'person-symbol': 'a sign for people',
    'skin-tone': 'a colour of skin', 'hair-style': 'a style of hair', 'animal-mammal': 'a mammal',
    'animal-bird': 'a bird', 'animal-amphibian': 'an amphibian', 'animal-reptile': 'a reptile',
    'animal-marine': 'a sea animal', 'animal-bug': 'a small crawling or flying animal',
    'plant-flower': 'a flower', 'plant-other': 'a plant', 'food-fruit': 'a fruit',
    'food-vegetable': 'a vegetable', 'food-prepared': 'something to eat',
    'food-asian': 'Asian food', 'food-sweet': 'something sweet', 'drink': 'something to drink',
    'dishware': 'a thing from the kitchen', 'place-map': 'a picture of the world',
    'place-geographic': 'a landscape', 'place-building': 'a building',
    'place-religious': 'a place of worship', 'place-other': 'a place or a view',
    'transport-ground': 'something from the road or rail', 'transport-water': 'something at sea',
    'transport-air': 'something in the air', 'hotel': 'a thing from a hotel',
    'time': 'a way to tell the time', 'sky-weather': 'sky and weather',
    'event': 'something festive', 'award-medal': 'an award', 'sport': 'a sport',
    'game': 'something to play with', 'arts-crafts': 'arts and crafts',
    'clothing': 'something to wear', 'sound': 'something about sound', 'music': 'music',
    'musical-instrument': 'a musical instrument', 'phone': 'a device for calls',
    'computer': 'a thing for computing', 'light-video': 'light and film',
    'book-paper': 'something on paper', 'money': 'money', 'mail': 'something for the mail',
    'writing': 'a thing to write or draw with', 'office': 'a thing from the office',
    'lock': 'locks and keys', 'tool': 'a tool or weapon', 'science': 'a thing of science',
    'medical': 'a thing of medicine', 'household': 'a thing from the house',
    'other-object': 'an object', 'transport-sign': 'a public sign', 'warning': 'a warning sign',
    'arrow': 'an arrow', 'religion': 'a sign of faith', 'zodiac': 'a sign of the zodiac',
    'av-symbol': 'a button of a player', 'gender': 'a sign of gender', 'math': 'a sign of maths',
    'punctuation': 'a punctuation mark', 'currency': 'a sign of money', 'other-symbol': 'a symbol',
    'keycap': 'a key of a telephone', 'alphanum': 'a sign with letters',
    'geometric': 'a simple shape', 'flag': 'a flag', 'country-flag': 'a flag',
    'subdivision-flag': 'a flag',
}

SLANG = frozenset("""
haha hahaha heh hehe lol rofl lmao xoxo meh omg wtf brb idk nvm smh tfw tbh afk gg ily btw jk rly
yolo thx smh bae aww ugh yay yeah yup nope yolo lmfao dang duh argh grr hmm huh xox
""".split())

RENAMED = {
    'rolling on the floor laughing': 'face rolling on the floor laughing',
    'star-struck': 'star-struck face', 'dizzy': 'dizzy star', 'dashing away': 'cloud of dust',
    'palms up together': 'palms turned up', 'kiss': 'couple kissing', 'ZZZ': 'letters ZZZ',
    'input latin uppercase': 'button for capital letters', 'copyright': 'copyright sign',
    'input latin lowercase': 'button for small letters', 'registered': 'registered sign',
    'input numbers': 'button for numbers', 'input symbols': 'button for symbols',
    'input latin letters': 'button for latin letters', 'information': 'information sign',
    'selfie': 'hand taking a selfie', 'plus': 'plus sign', 'minus': 'minus sign',
    'multiply': 'multiplication sign', 'divide': 'division sign', 'infinity': 'infinity sign',
    'trade mark': 'trade mark sign', 'cinema': 'cinema button', 'wireless': 'wireless button',
    'om': 'om sign', 'vibration mode': 'vibration mode button', 'foggy': 'foggy city',
    'mobile phone off': 'mobile phone off button', 'boar': 'wild boar',
    'raised back of hand': 'back of a raised hand', 'mount fuji': 'Mount Fuji',
    'person taking bath': 'person taking a bath',
    'person getting massage': 'person getting a massage',
    'man getting massage': 'man getting a massage',
    'woman getting massage': 'woman getting a massage',
    'person getting haircut': 'person getting a haircut',
    'man getting haircut': 'man getting a haircut',
    'woman getting haircut': 'woman getting a haircut',
}

# Names that take no article: proper names, materials and activities.
BARE = frozenset("""
Santa_Claus Mrs._Claus Mx_Claus breast-feeding horse_racing camping Mount_Fuji
broccoli garlic bacon popcorn salt butter cooked_rice curry_rice spaghetti oden dango sushi falafel
shaved_ice custard sake mate ice fondue shrimp fried_shrimp coral cooking
leafy_green brick wood fog tennis volleyball cricket_game field_hockey ice_hockey ping_pong
badminton lacrosse softball bowling baseball american_football rugby_football soap yarn thread
money_with_wings lipstick nail_polish mahjong_red_dragon performing_arts dna pouring_liquid
building_construction construction canned_food cut_of_meat meat_on_bone letters_ZZZ potable_water
non-potable_water passport_control customs baggage_claim left_luggage no_smoking no_littering
no_entry no_one_under_eighteen luggage currency_exchange hot_springs
""".replace('\n', ' ').split())
SINGULAR = frozenset("""
cactus octopus rhinoceros compass dress cross glass bus minibus trolleybus hippopotamus hibiscus
lotus abacus
""".split())
MADE_PLURAL = frozenset('people men women children footprints lungs feet teeth skis'.split())
THE = frozenset("""
world_map map_of_Japan Statue_of_Liberty Tokyo_tower sun milky_way star_of_David kaaba
wheel_of_dharma 1st_place_medal 2nd_place_medal 3rd_place_medal
""".split())
SAID_WITH_YOU = re.compile(r'(uni(corn|t|v|f|c)|use|euro|ewe|one|u-)', re.IGNORECASE)
SPELT_WITH_VOWEL = re.compile(r'(x-ray|SOS|NG |hour|honest|8|11|18|ID |ATM|OK|UP!|ON!|AB )')
TAIL = re.compile(
    r',| (with|of|in|on|at|from|for|holding|facing|showing|over|without|and|behind|not|to|under|'
    r'lifting) ')
COUNTRIES_WITH_THE = re.compile(
    r'(United|.* Islands?$|Bahamas|Gambia|Netherlands|Philippines|Maldives|Comoros|Seychelles|'
    r'.* Republic$|European Union|.* Territories$|Caribbean Netherlands|.* Territory$|.*Emirates)')
NO_THE = re.compile(r'(Christmas|Norfolk|Bouvet|Ascension|Clipperton|Easter) Island')


def plain(text: str) -> str:
  """The text with typewriter quotes only; quotation marks are left out."""
  return text.replace('’', "'").replace('“', '').replace('”', '').replace('…', '')


def listed(words: list[str]) -> str:
  return words[0] if len(words) == 1 else ', '.join(words[:-1]) + ' and ' + words[-1]


def with_article(word: str) -> str:
  """`word` with "a" or "an", by its sound."""
  vowel = word[:1].lower() in 'aeio' or (word[:1] in 'uU')
  if SAID_WITH_YOU.match(word):
    vowel = False
  if SPELT_WITH_VOWEL.match(word):
    vowel = True
  return ('an ' if vowel else 'a ') + word


def name(label: str, subgroup: str) -> str:
  """CLDR's label as words that can stand in a sentence, without an article in front."""
  label = plain(label)
  if label.endswith((" o'clock", '-thirty')):
    return f'clock at {label}'
  if label in RENAMED:
    return RENAMED[label]
  if ': ' not in label:
    return label.replace(' (blood type)', '')
  head, tail = label.split(': ', 1)
  if head == 'flag':
    the = COUNTRIES_WITH_THE.match(tail) and not NO_THE.match(tail)
    return f"flag of {'the ' if the else ''}{tail.replace('&', 'and')}"
  if head == 'keycap':
    return f'key {tail}'
  if head in ('family', 'kiss', 'couple with heart'):
    join = {'family': ' of', 'kiss': ' between', 'couple with heart': ','}[head]
    return f"{head}{join} {listed([with_article(word) for word in tail.split(', ')])}"
  if tail == 'bald':
    return f'bald {head}'
  if tail == 'beard':
    return f'{head} with a beard'
  return f'{head} with {tail}' if tail.endswith('hair') else f'{head} {tail}'


def phrase(words: str, subgroup: str) -> str:
  """The name with the article that English wants: "a fox", "an owl", "grapes", "the sun"."""
  key = words.replace(' ', '_')
  if subgroup in ('country-flag', 'subdivision-flag', 'keycap') or key in THE:
    return f'the {words}'
  if subgroup == 'zodiac':
    return f'the zodiac sign {words}'
  if key in BARE or words.startswith('no '):
    return words
  head = TAIL.split(words)[0].split()
  if any(word in MADE_PLURAL for word in head) or plural(head[-1]):
    return words
  return with_article(words)


def plural(word: str) -> bool:
  """Whether the noun reads as a plural; by its ending, with a list of exceptions."""
  return word.endswith('s') and not word.endswith(('ss', 'us', 'is', "'s")) and \
      word not in SINGULAR
