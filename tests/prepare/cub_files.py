"""A miniature CUB-200-2011 with the lists of AttnGAN and of Reed et al., as they were published."""
import struct
import zipfile

import numpy as np
from PIL import Image

SPECIES = ('001.Black_footed_Albatross', '002.Laysan_Albatross', '003.Sooty_Albatross')
# Number, name without ".jpg", species from 1, box; CUB's own numbers ascend, with no gap.
IMAGES = ((1, f'{SPECIES[0]}/Black_Footed_Albatross_0046_18', 1, (6.0, 2.5, 20.0, 24.0)),
            (2, f'{SPECIES[0]}/Black_Footed_Albatross_0009_34', 1, (0.0, 0.0, 40.0, 30.0)),
            (3, f'{SPECIES[1]}/Laysan_Albatross_0002_1027', 2, (4.0, 4.0, 30.0, 20.0)),
            (4, f'{SPECIES[1]}/Laysan_Albatross_0044_784', 2, (10.0, 10.0, 10.0, 10.0)),
            (5, f'{SPECIES[2]}/Sooty_Albatross_0040_796375', 3, (1.0, 2.0, 3.0, 4.0)),
            (6, f'{SPECIES[2]}/Sooty_Albatross_0071_796349', 3, (5.0, 6.0, 7.0, 8.0)))
KEY = {number: key for number, key, _, _ in IMAGES}
CAPTIONS = {1: ('A black bird.', 'a bird looking to its left'), 2: ('this bird is brown',),
            3: ('A white bird', 'it swims'), 4: ('grey wings', 'a grey bird'),
            5: ('a sooty bird, on a rock', 'the bird has a dark bill'), 6: ('dark feathers',)}


def pixels(number):
  """uint8 [30, 40, 3], the left half of one colour and the right of another."""
  image = np.zeros((30, 40, 3), np.uint8)
  image[:, :20], image[:, 20:] = 20 * (number % 6), 255 - 20 * (number % 6)
  return image


def many(each):
  """As PICTURES, with `each` images of every species; the box is the image's middle."""
  return tuple((label * each + i + 1, f'{name}/{name[4:]}_{i:04d}_{label}', label + 1,
                (10.0, 10.0, 10.0, 10.0))
               for label, name in enumerate(SPECIES) for i in range(each))


def write_images(folder, images=IMAGES):
  """CUB_200_2011 with its lists and images of 40 x 30 px."""
  root = folder / 'CUB_200_2011'
  (root / 'images').mkdir(parents=True)
  lines = {'images.txt': [f'{n} {key}.jpg' for n, key, _, _ in images],
           'image_class_labels.txt': [f'{n} {label}' for n, _, label, _ in images],
           'bounding_boxes.txt': [f'{n} {" ".join(map(str, box))}' for n, _, _, box in images],
           'classes.txt': [f'{i} {name}' for i, name in enumerate(SPECIES, 1)],
           'train_test_split.txt': [f'{n} {n % 2}' for n, _, _, _ in images]}
  for name, those in lines.items():
    (root / name).write_text('\n'.join(those) + '\n')
  for number, key, _, _ in images:
    path = root / 'images' / f'{key}.jpg'
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels(number)).save(path, quality=95)
  return root


def attngan(train=(5, 1, 2, 6), heldout=(4, 3)):
  """{path: bytes} of AttnGAN's metadata; the splits are not in the order of images.txt."""
  species = {number: label for number, _, label, _ in IMAGES}
  files = {f'text/{KEY[n]}.txt': '\n'.join(CAPTIONS[n]).encode() + b'\n' for n in CAPTIONS}
  for folder, numbers in (('train', train), ('test', heldout)):
    files[f'{folder}/filenames.pickle'] = python2([KEY[n].encode() for n in numbers])
    files[f'{folder}/class_info.pickle'] = python2([species[n] for n in numbers])
  return files


def captions_pickle(train, heldout, words):
  """`captions.pickle` of lists of numbers; Python 2 wrote "<end>" as str, words as unicode."""
  numbered = {0: b'<end>', **dict(enumerate(words, 1))}
  return python2([train, heldout, numbered, {word: i for i, word in numbered.items()}])


def reed():
  """{path: bytes} of what Reed et al. published, without the codes of captions."""
  return {'trainvalclasses.txt': f'{SPECIES[0]}\n{SPECIES[2]}\n'.encode(),
          'testclasses.txt': f'{SPECIES[1]}\n'.encode(),
          'allclasses.txt': '\n'.join(SPECIES).encode(),
          **{f'text_c10/{KEY[n]}.txt': '\n'.join(CAPTIONS[n]).encode() for n in CAPTIONS}}


def write(folder, files):
  """Files in a folder; {path: bytes}."""
  for name, content in files.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
  return folder


def zipped(path, files, top=''):
  with zipfile.ZipFile(path, 'w') as archive:
    for name, content in files.items():
      archive.writestr(f'{top}{name}', content)
  return path


def python2(value):
  """A pickle of protocol 2 as Python 2 writes it; bytes stand for its str, str for its unicode."""
  return b'\x80\x02' + _opcodes(value) + b'.'


def _opcodes(value):
  if isinstance(value, bytes):
    short = len(value) < 256
    return (b'U' + bytes([len(value)]) if short else b'T' + struct.pack('<i', len(value))) + value
  if isinstance(value, str):
    text = value.encode()
    return b'X' + struct.pack('<I', len(text)) + text
  if isinstance(value, int):
    return b'K' + bytes([value]) if 0 <= value < 256 else b'J' + struct.pack('<i', value)
  if isinstance(value, list):
    return b'](' + b''.join(map(_opcodes, value)) + b'e'
  if isinstance(value, dict):
    return b'}(' + b''.join(_opcodes(x) for item in value.items() for x in item) + b'u'
  if isinstance(value, np.generic):
    return (b'cnumpy.core.multiarray\nscalar\n' + _dtype(value.dtype) + _opcodes(value.tobytes())
            + b'\x86R')
  shape = b'(' + b''.join(map(_opcodes, value.shape)) + b't'
  return (b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01'
          + shape + _dtype(value.dtype) + b'\x89' + _opcodes(value.tobytes()) + b'tb')


def _dtype(dtype):
  return (b'cnumpy\ndtype\n' + _opcodes(dtype.str[1:].encode()) + b'K\x00K\x01\x87R(K\x03'
          + _opcodes(dtype.str[:1].encode()) + b'NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb')
