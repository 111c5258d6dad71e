"""Miniature Localized Narratives, written as they are published."""
import json

import coco_files


def narrative(dataset, image, annotator, text, full=False):
  """A line of the captions alone, or of the full file."""
  fact = {'dataset_id': dataset, 'image_id': image, 'annotator_id': annotator, 'caption': text}
  if full:
    fact |= {'timed_caption': [{'utterance': 'In this', 'start_time': 0.0, 'end_time': 0.4}],
             'traces': [[{'x': 0.2086, 'y': -0.0533, 't': 0.022}]],
             'voice_recording': f'coco_val/coco_val_{image}_{annotator}.ogg'}
  return json.dumps(fact) + '\n'


TRAIN = [('9', 4, 'In this image there is a dog on the left side.'),
         ('137576', 7, 'A cow.  It eats\n'), ('9', 5, 'A dog.'), ('9', 6, 'A dog.'),
         ('25', 4, ' '), ('30', 4, 'Two men talk.')]
VAL = [('7', 1, 'A cat sits here.'), ('7', 2, 'One cat.')]


def small_ln_coco(folder, full=False):
  """Three images with four narratives to train with, one with two held out; no annotations."""
  folder.mkdir()
  parts = {'train2017': {f'{n:012d}.jpg': coco_files.jpeg(n) for n in (9, 25, 30, 137576)},
           'val2017': {'000000000007.jpg': coco_files.jpeg(7)}}
  for part, files in parts.items():
    coco_files.zipped(folder / f'{part}.zip', {f'{part}/{n}': data for n, data in files.items()})
  train = [narrative('mscoco_train2017', *fact, full) for fact in TRAIN]
  val = [narrative('mscoco_val2017', *fact, full) for fact in VAL]
  if full:
    shards = [train[:3], train[3:4], train[4:], []]
    for i, lines in enumerate(shards):
      name = f'coco_train_localized_narratives-{i:05d}-of-00004.jsonl'
      (folder / name).write_text(''.join(lines))
    (folder / 'coco_val_localized_narratives.jsonl').write_text(''.join(val))
  else:
    (folder / 'coco_train_captions.jsonl').write_text(''.join(train))
    (folder / 'coco_val_captions.jsonl').write_text(''.join(val))
  return folder


def instances_2017():
  """What is outlined in these images: {name: text}."""
  def images(numbers):
    return [{'id': n, 'file_name': f'{n:012d}.jpg', 'width': 40, 'height': 30} for n in numbers]
  return {
      'instances_train2017.json': coco_files.instances_file(
          images([137576, 30, 25, 9]), [coco_files.thing(1, 9, 18, [1, 2, 3, 4], 12)]),
      'instances_val2017.json': coco_files.instances_file(
          images([7]), [coco_files.thing(1, 7, 1, [1, 2, 3, 4], 300)])}


def small_ln_openimages(folder):
  """Images in all the places where they may lie; one narrative's image is missing."""
  folder.mkdir()
  places = {'0a': 'train_0', 'f1': 'train/train_f', '1b': 'train', '00': 'images/validation'}
  for i, (name, place) in enumerate(places.items()):
    (folder / place).mkdir(parents=True, exist_ok=True)
    (folder / place / f'{name}.jpg').write_bytes(coco_files.jpeg(i))
  train = [('f1', 1, 'Last.'), ('0a', 1, 'First.'), ('1b', 2, 'Next.'), ('2c', 2, 'Missing.')]
  (folder / 'open_images_train_v6_captions.jsonl').write_text(
      ''.join(narrative('open_images_train', *fact) for fact in train))
  (folder / 'open_images_validation_localized_narratives.jsonl').write_text(
      narrative('open_images_validation', '00', 3, 'Held out.', full=True))
  return folder
