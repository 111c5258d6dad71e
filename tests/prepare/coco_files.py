"""Miniature data sets in the formats of COCO, written as COCO publishes them."""
import io
import json
import zipfile

import numpy as np
from PIL import Image

# COCO's own numbers have gaps, and names are not in the order of the alphabet.
CATEGORIES = [{'id': 1, 'name': 'person', 'supercategory': 'person'},
              {'id': 3, 'name': 'car', 'supercategory': 'vehicle'},
              {'id': 18, 'name': 'dog', 'supercategory': 'animal'}]


def jpeg(number, width=40, height=30):
  """The bytes of a JPEG that depends on a number."""
  rng = np.random.default_rng(number)
  small = Image.fromarray(rng.integers(0, 256, (3, 4, 3), np.uint8))
  file = io.BytesIO()
  small.resize((width, height)).save(file, 'JPEG')
  return file.getvalue()


def name_of(number, part='train2014'):
  return f'COCO_{part}_{number:012d}.jpg'


def images(numbers, part='train2014', size=(40, 30)):
  """The list "images" of an annotation file."""
  width, height = size
  return [{'id': n, 'file_name': name_of(n, part), 'width': width, 'height': height,
           'license': 1, 'date_captured': '2013-11-14 17:02:52'} for n in numbers]


def caption(number, image, text):
  return {'id': number, 'image_id': image, 'caption': text}


def thing(number, image, category, box, area, crowd=0):
  outline = {'counts': [5, 2], 'size': [30, 40]} if crowd else [[1.5, 2.5, 3.5, 4.5, 1.5, 9.25]]
  return {'id': number, 'image_id': image, 'category_id': category, 'bbox': box, 'area': area,
          'iscrowd': crowd, 'segmentation': outline}


def captions_file(images, annotations):
  return json.dumps({'info': {'year': 2014}, 'images': images, 'annotations': annotations})


def instances_file(images, annotations, categories=CATEGORIES):
  return json.dumps({'info': {'year': 2014}, 'images': images, 'annotations': annotations,
                     'categories': categories})


def zipped(path, members):
  """A zip without compression, as COCO's; members {name: bytes or text}."""
  with zipfile.ZipFile(path, 'w') as archive:
    for name, content in members.items():
      archive.writestr(name, content)


def as_zips(folder, lists, parts):
  """lists {name of an annotation file: text}; parts {"train2014": {name of an image: bytes}}."""
  folder.mkdir(exist_ok=True)
  zipped(folder / 'annotations_trainval2014.zip',
         {f'annotations/{name}': text for name, text in lists.items()})
  for part, files in parts.items():
    zipped(folder / f'{part}.zip', {f'{part}/': b'', **{f'{part}/{name}': content
                                                       for name, content in files.items()}})
  return folder


def unpacked(folder, lists, parts, images='', annotations='annotations'):
  """The same in folders: images below `images`, lists in `annotations`."""
  (folder / annotations).mkdir(parents=True, exist_ok=True)
  for name, text in lists.items():
    (folder / annotations / name).write_text(text)
  for part, files in parts.items():
    (folder / images / part).mkdir(parents=True)
    for name, content in files.items():
      (folder / images / part / name).write_bytes(content)
  return folder


def small_coco():
  """A set of four images to train with, of which one has no caption, and two held out.

  Returns lists and parts, see `as_zips`.
  """
  train, val = images([42, 9, 25, 30]), images([7, 5], 'val2014', (20, 10))
  said = [caption(103, 9, 'A dog\nnear a  car.\n'), caption(101, 9, 'Two dogs on the left'),
          caption(7, 42, ' A person '), caption(8, 42, ' \n'), caption(9, 42, 'nobody'),
          caption(10, 25, 'leftover pizza, bright'), caption(11, 99, 'of no image')]
  seen = [thing(2, 9, 18, [1.25, 2, 10, 11.5], 60.5), thing(1, 9, 3, [0, 0, 40, 30], 1500.0),
          thing(3, 9, 18, [5, 5, 6, 6], 59.5, crowd=1), thing(4, 42, 1, [0, 0, 1, 1], 0.25),
          thing(5, 42, 77, [0, 0, 1, 1], 1), thing(6, 99, 1, [0, 0, 1, 1], 1),
          thing(7, 30, 1, [0, 0, 1, 1], 1)]
  said_of_val = [caption(1, 5, 'a man on the right'), caption(2, 7, 'a cat'),
                 caption(3, 7, 'the cat sits')]
  lists = {'captions_train2014.json': captions_file(train, said),
           'instances_train2014.json': instances_file(train, seen),
           'captions_val2014.json': captions_file(val, said_of_val),
           'instances_val2014.json': instances_file(val, [thing(8, 7, 18, [0, 0, 20, 5], 80)])}
  parts = {'train2014': {name_of(n): jpeg(n) for n in (9, 25, 30, 42)},
           'val2014': {name_of(n, 'val2014'): jpeg(n, 20, 10) for n in (5, 7)}}
  return lists, parts
