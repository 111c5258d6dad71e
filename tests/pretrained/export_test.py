"""`xmc export`: a folder that draws what the run draws, and that is refused when it is damaged."""
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import saved_runs
import tiny
import tokenizers
import toys
from safetensors import numpy as safetensors_numpy

import xmc_jax
from xmc_jax.cli.main import main
from xmc_jax.data import source
from xmc_jax.encoders import damsm, registry
from xmc_jax.evals import results
from xmc_jax.methods import attngan, galip
from xmc_jax.networks import galip as galip_networks
from xmc_jax.pretrained import export as exporting
from xmc_jax.pretrained import folder, text_encoder
from xmc_jax.pretrained import model as module
from xmc_jax.pretrained.export import export
from xmc_jax.pretrained.model import from_folder
from xmc_jax.sampling import TextToImage
from xmc_jax.types import UserError
from xmc_jax.weight_files import hf_folders

pytestmark = pytest.mark.slow

CAPTIONS = ['a red apple', 'the flag of France']


@pytest.fixture(scope='module')
def whole(trained, tmp_path_factory):
  """The tiny run as a model folder in single precision; copy it to change it."""
  target = tmp_path_factory.mktemp('models') / 'whole'
  export(trained, target)
  return target


@pytest.fixture
def copy(whole, tmp_path):
  return shutil.copytree(whole, tmp_path / 'copy')


def test_it_draws_what_the_run_draws_and_names_no_path_of_this_machine(
    trained, whole, encoder_folder):
  run = TextToImage.load(trained)
  model = from_folder(whole)
  np.testing.assert_array_equal(model.generate(CAPTIONS, seed=3), run.generate(CAPTIONS, seed=3))
  assert (model.step, model.weights) == (4, 'averaged')
  assert str(encoder_folder.parent) not in (whole / 'config.json').read_text()
  assert {path.name for path in whole.iterdir()} == {
      'README.md', 'SHA256SUMS', 'config.json', 'model.safetensors', 'tokenizer.json',
      'text_encoder'}
  tokenizers.Tokenizer.from_file(str(whole / 'tokenizer.json'))


def test_other_paths_of_this_machine_are_not_told(trained, tmp_path):
  config = TextToImage.load(trained).config.copy_and_resolve_references()
  with config.unlocked():
    config.init, config.data.options.folder = '/home/me/runs/first', '~/secret/flowers-64'
  told = exporting._portable(config)
  assert (told['init'], told['data']['options']['folder']) == ('first', 'flowers-64')
  assert told['data']['name'] == 'emoji' and told['steps'] == 4 and told['model']['width'] == 4


def test_no_packaged_model_names_a_path():
  for name in module.names():
    text = (module.SHIPPED / name / 'config.json').read_text()
    assert not re.search(r'"[/~]', text), name


def test_checksums_are_those_of_sha256sum(whole):
  subprocess.run(['sha256sum', '--check', '--quiet', 'SHA256SUMS'], cwd=whole, check=True)


def test_fewer_bits_and_pieces_draw_nearly_the_same(trained, whole, tmp_path):
  argv = ['xmc', 'export', str(trained), str(tmp_path / 'small'), '--dtype=int8', '--text=int8']
  assert main([*argv, '--cut']) == 0
  size = lambda path: sum(file.stat().st_size for file in path.rglob('*'))
  assert size(tmp_path / 'small') < 0.6 * size(whole)
  small, model = (xmc_jax.load(path) for path in (tmp_path / 'small', whole))
  held = source.load('emoji', 'heldout', 32)
  captions = [held.captions(i)[0] for i in range(32)]
  difference = saved_runs.grey_levels(small(captions).arrays, model(captions).arrays)
  assert 0 < difference < 2
  rare = small.generator.tokenizer
  assert not any('[UNK]' in e.tokens for e in rare._tokenizer.encode_batch(['a quixotic zyzzyva']))


def test_the_command_replaces_a_model_and_nothing_else(trained, copy, tmp_path, capsys):
  (copy / '.git').mkdir()
  assert main(['xmc', 'export', str(trained), str(copy), '--step=2']) == 2
  assert 'holds .git' in capsys.readouterr().err and from_folder(copy).step == 4
  (copy / '.git').rmdir()
  assert main(['xmc', 'export', str(trained), str(copy), '--step=2']) == 0
  assert json.loads((copy / 'config.json').read_text())['step'] == 2
  assert 'step 2' in capsys.readouterr().out
  assert main(['xmc', 'export', str(trained), str(tmp_path / 'my model')]) == 0
  assert shlex.split(capsys.readouterr().out)[-2:] == [str(tmp_path / 'my model'), 'a red apple']
  (tmp_path / 'full').mkdir()
  (tmp_path / 'full' / 'thesis.txt').write_text('x')
  for target in (tmp_path / 'full', tmp_path / 'full' / 'thesis.txt'):
    assert main(['xmc', 'export', str(trained), str(target)]) == 2
    assert f'{target}: exists' in capsys.readouterr().err
  (tmp_path / 'full' / folder.SUMS).write_text('')      # any folder of downloads may have it
  assert main(['xmc', 'export', str(trained), str(tmp_path / 'full')]) == 2
  assert (tmp_path / 'full' / 'thesis.txt').read_text() == 'x'


def test_data_that_have_moved_are_found_for_the_cut(trained, tmp_path, monkeypatch):
  asked, load = [], text_encoder.sources.load

  def moved(name, split, size, **options):
    asked.append(options)
    return load(name, split, size)
  monkeypatch.setattr(text_encoder.sources, 'load', moved)
  assert main(['xmc', 'export', str(trained), str(tmp_path / 'model'), '--cut',
               '--data=elsewhere']) == 0
  assert [options['folder'] for options in asked] == ['elsewhere'] * 2


def test_a_link_leads_to_the_model_that_is_replaced(trained, copy, tmp_path):
  (tmp_path / 'link').symlink_to(copy)
  export(trained, tmp_path / 'link', step=2)
  assert (tmp_path / 'link').is_symlink() and from_folder(copy).step == 2


def test_a_mount_point_cannot_be_replaced(trained, tmp_path, monkeypatch):
  monkeypatch.setattr(pathlib.Path, 'is_mount', lambda path: path == tmp_path / 'disk')
  with pytest.raises(UserError, match='disk: is a mount point'):
    export(trained, tmp_path / 'disk')


def test_scores_of_random_weights_stay_out_of_the_card_and_those_without_reference_do_not_break_it(
    trained, tmp_path):
  run = shutil.copytree(trained, tmp_path / 'run')
  line = {'metric': 'FID', 'value': 21.75, 'protocol': 'tf2015', 'step': 4, 'weights': 'averaged',
          'fakes': 99, 'reals': 88, 'reference': 'emoji/heldout', 'weights_sha256': 'abc'}
  lines = [line, line | {'value': 3.25, 'weights_sha256': registry.RANDOM},
           {'metric': 'SOA-C', 'value': 0.625, 'protocol': 'soa', 'step': 4, 'weights': 'averaged',
            'fakes': 77},
           {'note': 'mine', 'step': 4, 'weights': 'averaged'},      # others write there too
           {'metric': 'mine', 'value': 9.5, 'step': 4, 'weights': 'averaged'}]
  (run / results.FILE).write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
  export(run, tmp_path / 'model')
  card = (tmp_path / 'model' / 'README.md').read_text()
  assert '| FID | 21.75 | tf2015 | 99 images against 88 of emoji/heldout |' in card
  assert '| SOA-C | 0.625 | soa | 77 images |' in card and '3.25' not in card
  assert 'mine' not in card


def test_a_text_encoder_in_bfloat16_is_exported(trained, encoder_folder, tmp_path):
  halves = shutil.copytree(encoder_folder, tmp_path / 'bert')
  tensors = safetensors_numpy.load_file(halves / 'model.safetensors')
  safetensors_numpy.save_file({name: x.astype(ml_dtypes.bfloat16) for name, x in tensors.items()},
                              halves / 'model.safetensors')
  for name, numbers in (('whole', None), ('cut', [*range(1000)])):
    run = TextToImage.load(trained)
    text_encoder.export(str(halves), tmp_path / name, run.tokenizer, 'float16', numbers)
    found = safetensors_numpy.load_file(tmp_path / name / 'model.safetensors')
    assert found.keys() == tensors.keys()
    assert {x.dtype.name for x in found.values()} == {'float16'}
  words = 'embeddings.word_embeddings.weight'
  np.testing.assert_allclose(found[words], tensors[words][:1000], rtol=0.01)


def test_a_model_that_is_there_stays_if_the_export_fails(trained, copy, monkeypatch):
  def fail(*_):
    raise UserError('the disk is full')
  before = {path: path.read_bytes() for path in copy.rglob('*') if path.is_file()}
  monkeypatch.setattr(folder, 'write', fail)
  with pytest.raises(UserError, match='full'):
    export(trained, copy)
  assert {path: path.read_bytes() for path in copy.rglob('*') if path.is_file()} == before
  assert [path.name for path in copy.parent.iterdir()] == ['copy']


def test_statistics_of_all_networks_keep_their_precision(trained, tmp_path):
  export(trained, tmp_path / 'full', full=True, dtype='int8')
  kinds = {name: x.dtype for name, x in safetensors_numpy.load_file(
      tmp_path / 'full' / 'model.safetensors').items()}
  found = {kinds[name] for name in kinds if '/stats/' in name}
  assert found == {np.dtype('float32')} and np.dtype('int8') in kinds.values()


def test_all_networks_can_be_added(trained, whole, tmp_path):
  export(trained, tmp_path / 'full', full=True)
  names = lambda path: set(safetensors_numpy.load_file(path / 'model.safetensors'))
  extra = names(tmp_path / 'full') - names(whole)
  assert extra == {name for name in names(tmp_path / 'full') if name.startswith('networks/')}
  assert {name.split('/')[1] for name in extra} == {'g', 'd'}
  np.testing.assert_array_equal(from_folder(tmp_path / 'full').generate(CAPTIONS),
                                from_folder(whole).generate(CAPTIONS))


@pytest.mark.parametrize('file', ['config.json', 'model.safetensors', 'tokenizer.json',
                                  'text_encoder/model.safetensors', 'text_encoder/config.json'])
@pytest.mark.parametrize('harm', ['cut', 'changed', 'gone'])
def test_a_damaged_file_is_named(copy, file, harm):
  path = copy / file
  content = path.read_bytes()
  path.unlink()
  if harm != 'gone':
    path.write_bytes(content[:-9] if harm == 'cut' else content[:-1] + b'!')
  with pytest.raises(UserError, match=file.rpartition('/')[2]) as told:
    xmc_jax.load(copy)
  assert 'export it again' in str(told.value) and '\n' not in str(told.value)


def test_a_card_may_be_edited(copy):
  (copy / 'README.md').write_text('My model')
  xmc_jax.load(copy)


@pytest.mark.parametrize('change, words', [
    ({'model_type': 'bert'}, "another library: model_type is 'bert'"),
    ({'format': 99}, 'format 99')])
def test_a_folder_of_another_library_or_version_is_refused(copy, change, words):
  facts = json.loads((copy / 'config.json').read_text())
  (copy / 'config.json').write_text(json.dumps(facts | change))
  sums = (copy / 'SHA256SUMS').read_text().splitlines()[1:]
  digits = folder.file_sha256(copy / 'config.json')
  (copy / 'SHA256SUMS').write_text('\n'.join([f'{digits}  config.json', *sums]) + '\n')
  with pytest.raises(UserError, match=words):
    xmc_jax.load(copy)


def test_a_method_outside_the_package_is_not_imported_by_itself(copy, tmp_path, monkeypatch):
  (tmp_path / 'strange').mkdir()
  (tmp_path / 'strange/method.py').write_text('raise ValueError("this ran")')
  monkeypatch.syspath_prepend(tmp_path)
  facts = json.loads((copy / 'config.json').read_text())
  facts['config']['method'] = 'strange.method'
  (copy / 'config.json').write_text(json.dumps(facts))
  saved_runs.sign_again(copy)
  with pytest.raises(UserError, match='config.json: the method .* `import strange.method`'):
    xmc_jax.load(copy)


def test_weights_of_other_networks_are_refused(copy):
  tensors = safetensors_numpy.load_file(copy / 'model.safetensors')
  name = next(iter(tensors))
  safetensors_numpy.save_file(tensors | {name: tensors[name][..., :-1]}, copy / 'model.safetensors')
  saved_runs.sign_again(copy)
  with pytest.raises(UserError, match='not those of the networks'):
    xmc_jax.load(copy)


@pytest.mark.parametrize('content', [(), ('config.json',)])
def test_other_folders_are_refused(tmp_path, content):
  for name in content:
    (tmp_path / name).write_text('{}')
  with pytest.raises(UserError, match='not a folder of a model.*SHA256SUMS'):
    xmc_jax.load(tmp_path)


def test_loading_needs_neither_tensorflow_nor_orbax(whole):
  source = ('import sys, xmc_jax, toy_methods.quick; xmc_jax.load(sys.argv[1])("a red apple"); '
            'print(*{name.partition(".")[0] for name in sys.modules})')
  process = subprocess.run([sys.executable, '-c', source, str(whole)], cwd=tiny.ROOT, text=True,
                           env=os.environ | tiny.WITH_TENSORFLOW, capture_output=True, check=True)
  imported = set(process.stdout.split())
  assert 'jax' in imported and not imported & {'tensorflow', 'orbax', 'clu', 'huggingface_hub'}


def word_tokenizer():
  vocab = {word: i for i, word in enumerate(['<end>', 'a', 'red', 'apple', 'the', 'cat'])}
  made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token='<end>'))
  made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  return made.to_str()


def lstm_run(tmp_path):
  module = damsm.Damsm(6, 'squeezenet', embedding=4, width=8)
  known = {'model_type': 'damsm', 'vocabulary': 6, 'backbone_name': 'squeezenet', 'embedding': 4,
           'width': 8, 'backbone_sha256': ''}
  spec = damsm._trained_spec(module)
  hf_folders.write(tmp_path / 'lstm', known, saved_runs.flat(toys.fill(spec)), word_tokenizer())
  config = attngan.config()
  config.update_from_flattened_dict({
      'batch_size': 8, 'model.size': 32, 'model.width': 4, 'model.d_width': 2,
      'model.residuals': 1, 'model.z_features': 5, 'model.condition_features': 3,
      'model.dtype': 'float32', 'text.length': 6, 'text.encoder': str(tmp_path / 'lstm'),
      'terms.damsm_words': 0.0, 'terms.damsm_sentence': 0.0, 'image.encoder': 'squeezenet'})
  return saved_runs.save(tmp_path / 'run', config)


def clip_run(tmp_path):
  tool = tiny.script('tools/clip_goldens.py')
  parts = {'vision_config': {'image_size': 16},
           'text_config': {'vocab_size': len(tool.vocabulary(tool.MERGES))}}
  tool.write(tmp_path / 'clip', tool.QUICK | {k: tool.QUICK[k] | v for k, v in parts.items()})
  config = galip.config()
  config.update_from_flattened_dict({
      'batch_size': 8, 'model.size': 32, 'model.width': 4, 'model.z_features': 5,
      'model.dtype': 'float32', 'text.encoder': str(tmp_path / 'clip'), 'text.length': 6})
  return saved_runs.save(tmp_path / 'run', config)


@pytest.mark.parametrize('make', [lstm_run, clip_run])
def test_text_encoders_that_are_no_bert_are_exported_whole(make, tmp_path, monkeypatch):
  monkeypatch.setattr(galip_networks, 'BRIDGES', 1)      # most of the time is the compiler's
  run = make(tmp_path)
  wanted = TextToImage.load(run).generate(['the red apple'])
  export(run, tmp_path / 'model')
  export(run, tmp_path / 'small', dtype='int8', text='int8')
  with pytest.raises(UserError, match='--cut'):
    export(run, tmp_path / 'cut', cut=True)
  assert not (tmp_path / 'cut').exists()
  for path in (tmp_path / 'lstm', tmp_path / 'clip'):
    shutil.rmtree(path, ignore_errors=True)
  np.testing.assert_array_equal(from_folder(tmp_path / 'model').generate(['the red apple']), wanted)
  if make is lstm_run:      # reads captions of any length, beside which short ones stay as they are
    long = ['the red apple', 'the red apple the cat a cat', 'the red apple the cat a']
    read = from_folder(tmp_path / 'model').generate(long)
    np.testing.assert_allclose(read[0], wanted[0], atol=1e-5)
    assert np.abs(read[1] - read[2]).max() > 1e-3
  small = from_folder(tmp_path / 'small').generate(['the red apple'])
  assert 0 < np.abs(small - wanted).mean() < 0.03
