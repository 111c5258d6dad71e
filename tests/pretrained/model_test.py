"""`xmc_jax.load`: where it finds a model, how that is called, and the Hugging Face Hub."""
import pathlib
import re
import shutil
import subprocess
import sys

import huggingface_hub
import jax
import numpy as np
import pytest
import tiny
from PIL import Image

import xmc_jax
from xmc_jax.cli.main import main
from xmc_jax.data.embedded.emoji_scenes import kinds
from xmc_jax.evals import objects
from xmc_jax.pretrained import folder
from xmc_jax.pretrained import model as module
from xmc_jax.types import UserError

SHIPPED = module.SHIPPED / 'emoji64'
slow = pytest.mark.slow


@pytest.fixture(scope='module')
def emoji64():
  return xmc_jax.load('emoji64')


@slow
def test_captions_are_cleaned_as_those_of_the_command_are(emoji64):
  plain, pasted = (emoji64(text, seed=3).arrays
                   for text in ('salt & pepper', '\ufeffsalt &amp;\npepper'))
  np.testing.assert_array_equal(pasted, plain)


@slow
def test_images_for_pillow_and_numpy(emoji64):
  drawn = emoji64('a red apple', num_images=3, seed=3)
  assert drawn.arrays.shape == (3, 64, 64, 3) and drawn.arrays.dtype == np.uint8
  assert drawn.captions == 3 * ['a red apple'] and len({x.tobytes() for x in drawn.arrays}) == 3
  for image, array in zip(drawn.images, drawn.arrays):
    assert isinstance(image, Image.Image)
    np.testing.assert_array_equal(np.asarray(image), array)


@slow
def test_a_string_is_one_caption_and_no_captions_are_no_images(emoji64):
  one = emoji64.generator.generate('a red apple')
  np.testing.assert_array_equal(one, emoji64.generator.generate(c for c in ['a red apple']))
  assert one.shape == (1, 64, 64, 3) and emoji64.generator.generate([]).shape == (0, 64, 64, 3)


def score(model, caption, image):
  """What the discriminator finds of an image, uint8."""
  generator = model.generator.with_discriminator()
  tokens, mask = generator.tokenizer.encode([caption])
  tree, d = generator.tree, generator.tree['d']
  found = jax.jit(generator.method.match)(d['params'], d['stats'], tree['frozen'], {
      'tokens': tokens, 'mask': mask}, image[None] / np.float32(255))
  return found[0]


@pytest.fixture(scope='module')
def best_of_two():
  """The package's model of scenes, two images that it draws of a caption, the better of them."""
  model = module.load('scenes64')
  two = model('two drums', num_images=2).arrays
  return model, two, model('two drums', best_of=2).arrays[0]


@slow
def test_the_shipped_scenes_can_be_chosen(best_of_two):
  _, two, best = best_of_two
  assert [np.array_equal(best, image) for image in two].count(True) == 1


@slow
@pytest.mark.thorough
def test_the_shipped_scenes_can_be_searched_for(best_of_two):
  model, captions = best_of_two[0], ['two drums', 'a strawberry', 'three bees', 'a large castle']
  found = lambda **options: np.mean([
      score(model, caption, image)
      for caption, image in zip(captions, model(captions, best_of=2, **options).arrays)])
  assert found(latent_steps=8) > found() + 0.1


@slow
def test_captions_have_images_of_their_own_and_the_noise_can_be_truncated(emoji64):
  both = emoji64(['a red apple', 'a blue heart'], num_images=2, seed=3)
  assert both.captions == ['a red apple'] * 2 + ['a blue heart'] * 2
  alone = emoji64('a red apple', num_images=2, seed=3)
  np.testing.assert_array_equal(both.arrays[:2], alone.arrays)
  assert (emoji64('a red apple', seed=4).arrays != both.arrays[:1]).any()
  variety = lambda **options: emoji64('a clock', num_images=8, **options).arrays.std(axis=0).mean()
  assert variety(truncation=0.1) < 0.5 * variety()


@slow
def test_the_shipped_model_draws_red_apples_and_yellow_faces(emoji64):
  red = emoji64('a red apple', num_images=8).arrays.mean((0, 1, 2))
  yellow = emoji64('a yellow smiling face', num_images=8).arrays.mean((0, 1, 2))
  assert red[0] > red[1] + 40 and red[0] > red[2] + 40
  assert yellow[0] > yellow[2] + 40 and yellow[1] > yellow[2] + 40


@slow
def test_the_shipped_scenes_have_the_objects_and_the_background_of_the_caption():
  drawn = xmc_jax.load('scenes64')(
      ['a strawberry on a blue background', 'a sunflower on a green background'], num_images=24)
  backgrounds = drawn.arrays[:, :4, :4].mean((1, 2)).reshape(2, 24, 3)
  assert (backgrounds.argmax(-1) == [[2], [1]]).all()
  nouns = [kind.noun for kind in kinds()]
  wanted = [nouns.index('strawberry'), nouns.index('sunflower')]
  found = objects.find_objects(drawn.arrays / 255.0)
  shares = [[np.mean([kind in image for image in images]) for kind in wanted]
            for images in (found[:24], found[24:])]
  assert min(np.diag(shares)) > 0.7 and max(shares[0][1], shares[1][0]) < 0.2, shares


@slow
@pytest.mark.parametrize('captions, options, words', [
    ('', {}, 'no words'), ('a red 苹果', {}, 'not Latin'), ([], {}, 'at least one'),
    ('a cat', {'num_images': 0}, 'num_images=0'), ('a cat', {'truncation': 0}, 'truncation'),
    *(('a cat', {'seed': seed}, 'seed=') for seed in (-1, 2 ** 32, 2 ** 70, 1.5, None))])
def test_mistakes_are_told(emoji64, captions, options, words):
  with pytest.raises(UserError, match=words):
    emoji64(captions, **options)


@pytest.mark.parametrize('name, words', [
    ('emoji46', 'did you mean emoji64'), ('birds', 'one of emoji64'),
    ('./no/such/folder', 'no model')])
def test_a_model_that_is_not_there(name, words):
  with pytest.raises(UserError, match=words):
    xmc_jax.load(name)


def test_the_models_of_the_package():
  assert module.names() == ['emoji64', 'scenes64']
  for name in module.names():
    facts = folder.read_facts(module.SHIPPED / name)
    assert facts['weights'] == 'averaged'
    assert (module.SHIPPED / name / folder.WEIGHTS).stat().st_size < 10e6


def test_a_folder_of_the_users_goes_before_one_of_the_package(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'emoji64').mkdir()
  assert module.find('emoji64') == SHIPPED      # no model is in it
  shutil.copytree(SHIPPED, tmp_path / 'emoji64', dirs_exist_ok=True)
  assert module.find('emoji64') == pathlib.Path('emoji64')


def test_a_repository_of_the_hub_is_downloaded(monkeypatch):
  asked = []
  monkeypatch.setattr(huggingface_hub, 'snapshot_download',
                      lambda repo_id: asked.append(repo_id) or str(SHIPPED))
  assert module.find('org/name') == SHIPPED and asked == ['org/name']


def test_a_repository_that_cannot_be_had_is_told_in_one_sentence(monkeypatch):
  def fail(repo_id):
    raise OSError('no network\nand a long explanation')

  monkeypatch.setattr(huggingface_hub, 'snapshot_download', fail)
  with pytest.raises(UserError, match=r"'org/name'.*\(no network\)") as told:
    xmc_jax.load('org/name')
  assert '\n' not in str(told.value)
  monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
  with pytest.raises(UserError, match=r'xmc_jax\[hub\]'):
    xmc_jax.load('org/name')


class FakeApi:
  """Keeps what would be uploaded."""
  calls = []

  def __init__(self, token=None):
    self.token = token

  def create_repo(self, repo_id, **options):
    self.calls.append(('create', repo_id, self.token, options))

  def upload_folder(self, *, repo_id, folder_path, commit_message):
    files = {path.name for path in pathlib.Path(folder_path).iterdir()}
    self.calls.append(('upload', repo_id, files))
    return 'https://huggingface.co/org/name/commit/1'


def test_a_model_folder_is_uploaded_as_it_is(emoji64):
  with pytest.raises(UserError, match=r'push_to_hub\(license=...\): .* is a model folder'):
    emoji64.push_to_hub('org/name', license='mit')


@slow
def test_a_model_or_a_run_is_uploaded_as_a_model_folder(emoji64, trained, monkeypatch):
  monkeypatch.setattr(huggingface_hub, 'HfApi', FakeApi)
  monkeypatch.setattr(FakeApi, 'calls', [])
  for model, options in ((emoji64, {}), (xmc_jax.load(trained), {'dtype': 'float16'})):
    address = model.push_to_hub('org/name', private=True, token='x', **options)
    assert address.endswith('commit/1')
  create, upload = FakeApi.calls[:2]
  assert create == ('create', 'org/name', 'x', {'private': True, 'exist_ok': True})
  assert upload[2] == {path.name for path in SHIPPED.iterdir()}
  assert FakeApi.calls[2:] == [create, upload]


@pytest.mark.parametrize('name, tag', [('emoji64', 'emoji'), ('scenes64', 'emoji_scenes')])
def test_the_card_is_one_that_the_hub_reads(name, tag):
  card = huggingface_hub.ModelCard.load(module.SHIPPED / name / 'README.md')
  fields = card.data.to_dict()
  assert [fields[key] for key in ('library_name', 'pipeline_tag', 'license')] == [
      'xmc_jax', 'text-to-image', 'apache-2.0']
  assert {'jax', 'gan', 'swift', tag} <= set(fields['tags'])
  found = {result.metric_type: result for result in card.data.eval_results}
  assert found['FD-lite0'].metric_args['protocol'] == 'offline'
  assert 0 < found['alignment-16'].metric_value <= 1 and 'alignment-16 of real' not in found
  assert 'Noto' in card.text and f'xmc_jax.load("{name}")' in card.text


@slow
def test_the_command_draws_with_the_shipped_model_by_default(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert main(['xmc', 'sample', 'a red apple', '--each=2']) == 0
  first = {path.name: path.read_bytes() for path in (tmp_path / 'samples').iterdir()}
  assert len(first) == 2 and (tmp_path / 'samples.png').is_file()
  for named in ('emoji64', str(SHIPPED)):
    out = tmp_path / 'again'
    assert main(['xmc', 'sample', f'--model={named}', f'--out={out}', 'a red apple',
                 '--each=2']) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first


@pytest.mark.parametrize('flags, words', [
    (['--model=emoji64', '--workdir=run'], 'not allowed with'), (['--step=3'], '--step'),
    (['--live'], '--live'), (['--model=emoji64', '--text_encoder=x'], '--text_encoder')])
def test_flags_of_checkpoints_need_a_run(capsys, flags, words):
  assert main(['xmc', 'sample', 'a red apple', *flags]) == 2
  assert words in capsys.readouterr().err


def test_the_package_is_imported_without_jax_and_offers_four_functions():
  source = ('import sys, xmc_jax; assert "jax" not in sys.modules; '
            'import xmc_jax.trainer, xmc_jax.evaluator; '
            'print(*(callable(getattr(xmc_jax, n)) for n in '
            '("load", "train", "evaluate", "compare")))')
  found = subprocess.run([sys.executable, '-c', source], cwd=tiny.ROOT, text=True,
                         capture_output=True, check=True).stdout
  assert found.split() == 4 * ['True']
  assert {'load', 'train', 'evaluate', 'compare'} <= set(dir(xmc_jax))
  with pytest.raises(AttributeError, match='colour'):
    xmc_jax.colour  # noqa: B018


@slow
def test_the_lines_of_the_readme_run(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  lines = re.search(r'```python\n(import xmc_jax.*?)```',
                    (tiny.ROOT / 'README.md').read_text(), re.S)[1]
  exec(compile(lines, 'README.md', 'exec'), {})
  assert Image.open('apple.png').size == (64, 64)


@slow
def test_training_from_python(trained, encoder_folder, tmp_path):
  changes = {key.removeprefix('--config.'): value for key, _, value in (
      word.partition('=') for word in tiny.train_argv(tmp_path, encoder_folder)
      if word.startswith('--config.'))}
  changes |= {'steps': 1, 'data.loader': 'arrays'}
  state = xmc_jax.train(str(tiny.QUICK), tmp_path / 'run', changes)
  assert int(state.step) == 1
  with pytest.raises(UserError, match='model.size=96: xmc_gan'):      # a config by its name
    xmc_jax.train('demo', tmp_path / 'other', changes | {'model.size': 96})
  with pytest.raises(TypeError, match='changes'):
    xmc_jax.train(object(), tmp_path / 'run', {'steps': 1})


@slow
def test_the_command_tells_what_it_drew_instead_of_a_caption_that_was_never_seen(tmp_path, capsys):
  sample = lambda *flags: main(['xmc', 'sample', '--out', str(tmp_path / 's'), '--each=1', *flags])
  assert sample('trophy', 'red apple') == 0
  told = capsys.readouterr().out
  assert "'trophy'" in told and "'sports medal" in told and "'red apple'" not in told
  assert sample('--nearest=0', 'trophy') == 0
  assert 'medal' not in capsys.readouterr().out
  assert sample('--model=scenes64', '--nearest=0.5', 'a red apple') == 2
  assert '--nearest' in capsys.readouterr().err
