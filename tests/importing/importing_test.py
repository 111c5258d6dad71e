"""`xmc import`, then `xmc sample`: the images of the published networks, to one grey level.

The images that the published networks draw are computed by torch (`torch_published`) where it is
installed, and kept in `goldens` for where it is not; `pytest --regenerate` with torch writes them.
"""
import functools
import importlib.util
import pathlib
import shlex

import numpy as np
import published_states as states
import pytest
import tiny
import torch_writer
import toys
from PIL import Image
from published_runs import (
  CAPTIONS,
  CONDITION,
  NOISE,
  WORDS,
  grey_levels,
  leaves,
  refused,
  whole_state,
  xmc_import,
)

from xmc_jax.cli.main import main
from xmc_jax.encoders import clip, clip_tokens
from xmc_jax.encoders.clip_layers import TransformerConfig

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('compiled_once', 'filled')]

GOLDENS = pathlib.Path(__file__).parent / 'goldens'
HAS_TORCH = importlib.util.find_spec('torch') is not None


CLIP_SIZES = clip.ClipConfig(
    TransformerConfig(8, 6, 2, 32, 'quick_gelu', 1e-5),
    TransformerConfig(8, 1, 2, 16, 'quick_gelu', 1e-5),
    size=7, side=32, patch=4, vocabulary=600, positions=77, end=None)


@pytest.fixture(name='clip_folder')
def _clip_folder(tmp_path):
  variables = toys.fill(clip.spec(clip.Clip(CLIP_SIZES)), seed=3)
  clip.save(tmp_path / 'clip', CLIP_SIZES, variables, clip_tokens.train(CAPTIONS, 600), 0.07)
  return tmp_path / 'clip'


def openai_names(variables):
  """What GALIP's netG holds of the image transformer of a CLIP, by OpenAI's names."""
  p = variables['params']['image_transformer']
  found = {'class_embedding': p['class'], 'positional_embedding': p['positions']['embedding'],
           'conv1.weight': np.transpose(p['patches']['kernel'], (3, 2, 0, 1)),
           'ln_pre.weight': p['norm_before']['scale'], 'ln_pre.bias': p['norm_before']['bias']}
  for i in range(CLIP_SIZES.image.layers):
    name, q = f'transformer.resblocks.{i}', p[f'layer_{i}']
    for theirs, ours in (('ln_1', 'norm_attend'), ('ln_2', 'norm_widen')):
      found |= {f'{name}.{theirs}.weight': q[ours]['scale'],
                f'{name}.{theirs}.bias': q[ours]['bias']}
    for theirs, ours in (('attn.out_proj', 'attended'), ('mlp.c_fc', 'widen'),
                         ('mlp.c_proj', 'narrow')):
      found |= {f'{name}.{theirs}.weight': q[ours]['kernel'].T,
                f'{name}.{theirs}.bias': q[ours]['bias']}
    parts = [q[part] for part in ('query', 'key', 'value')]
    found[f'{name}.attn.in_proj_weight'] = np.concatenate([part['kernel'].T for part in parts])
    found[f'{name}.attn.in_proj_bias'] = np.concatenate([part['bias'] for part in parts])
  return {name: np.asarray(array) for name, array in found.items()}


def generator_state(family, clip_folder=None):
  if family == 'galip':
    inner = openai_names(clip.load(clip_folder)[1])
    assert {k: x.shape for k, x in inner.items()} == states.clip_image_transformer()
    return states.filled(states.galip()) | {
        f'mapping.CLIP_ViT.{name}': array for name, array in inner.items()}
  return states.filled(getattr(states, family)())


def discriminator_states(family):
  shapes = {'attngan': states.attngan_discriminators, 'dm_gan': states.dm_gan_discriminators,
            'ssa_gan': lambda: [states.ssa_gan_discriminator()]}[family]()
  return [states.filled(each, seed=i + 1) for i, each in enumerate(shapes)]


def write_discriminators(family, folder):
  paths = [folder / f'netD{i}.pth' for i, _ in enumerate(discriminator_states(family))]
  for path, state in zip(paths, discriminator_states(family)):
    torch_writer.write(path, state, zipped=True)
  return list(map(str, paths))


def galip_state(clip_folder):
  """All of GALIP's file, as DDP saves it."""
  return whole_state(generator_state('galip', clip_folder), states.galip_discriminator())


def by_torch(family, state, text_state, clip_folder):
  """The same images by the published network in torch."""
  import torch
  import torch_published as published
  captions = [caption for caption in CAPTIONS for _ in range(2)]
  lengths = [len(caption.split()) for caption in captions]
  tokens = np.zeros((4, max(lengths)), np.int64)
  for row, caption in enumerate(captions):
    tokens[row, :lengths[row]] = [1 + WORDS.index(word) for word in caption.split()]
  noise = functools.partial(toys.normal, 5, 4)
  with torch.no_grad():
    if family == 'galip':
      from xmc_jax.data.text import Tokenizer
      module, variables = clip.load(clip_folder)
      read, _ = Tokenizer(clip_folder, 77).encode(captions)
      sentence = torch.from_numpy(np.array(module.apply(variables, read, method='text')))
      return published.galip(state, sentence, noise(NOISE), (16, 32), heads=2, first=0)
    words, sentence = published.damsm_text(text_state, tokens, lengths)
    if family in ('df_gan', 'ssa_gan'):
      return getattr(published, family)(state, sentence, noise(NOISE))
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    return published.stacked(state, words, sentence, mask, noise(NOISE + CONDITION), NOISE,
                             getattr(published, f'{family}_reads'))


def expected(request, family, state, text_state, clip_folder):
  """By torch, if it is installed; else as it was when it was kept. [4, 32, 32, 3]."""
  path = GOLDENS / f'{family}.png'
  if not HAS_TORCH:
    return np.asarray(Image.open(path)).reshape(4, 32, 32, 3)
  images = by_torch(family, state, text_state, clip_folder)
  if request.config.getoption('regenerate'):
    GOLDENS.mkdir(exist_ok=True)
    Image.fromarray(images.reshape(-1, 32, 3)).save(path)
  return images


def write_generator(path, family, clip_folder, zipped=True, prefix=''):
  state = generator_state(family, clip_folder)
  torch_writer.write(path, {prefix + name: array for name, array in state.items()}, zipped)
  return state


@pytest.mark.parametrize('family', ['attngan', 'dm_gan', 'df_gan', 'ssa_gan', 'galip'])
def test_an_imported_generator_draws_what_the_published_one_draws(
    family, request, tmp_path, text_state, damsm_folder, clip_folder, drawn):
  state = write_generator(tmp_path / 'netG.pth', family, clip_folder)
  encoder = clip_folder if family == 'galip' else damsm_folder
  assert xmc_import(family, tmp_path / 'netG.pth', encoder, tmp_path / 'run') == 0
  images = drawn(tmp_path / 'run')
  wanted = expected(request, family, state, text_state, clip_folder)
  assert grey_levels(images, wanted) <= 1
  np.testing.assert_array_equal(drawn(tmp_path / 'run', '--live'), images)


@pytest.mark.skipif(not HAS_TORCH, reason='needs torch')
@pytest.mark.parametrize('family', ['attngan', 'df_gan', 'ssa_gan'])
@pytest.mark.parametrize('form', ['stream', 'parallel', 'half', 'wrapped'])
def test_files_that_torch_writes_in_any_form_are_read(
    family, form, tmp_path, damsm_folder, drawn):
  import torch
  path, half = tmp_path / 'netG.pth', form == 'half'
  state = generator_state(family)
  write_generator(tmp_path / 'plain.pth', family, None)
  prefix = 'module.' if form == 'parallel' else ''
  tensors = {prefix + name: torch.from_numpy(np.array(x)).to(
      torch.float16 if half else torch.float32) for name, x in state.items()}
  torch.save({'epoch': 3, 'state_dict': tensors} if form == 'wrapped' else tensors, path,
             _use_new_zipfile_serialization=form != 'stream')
  assert xmc_import(family, path, damsm_folder, tmp_path / 'run') == 0
  assert xmc_import(family, tmp_path / 'plain.pth', damsm_folder, tmp_path / 'plain') == 0
  assert grey_levels(drawn(tmp_path / 'run'), drawn(tmp_path / 'plain')) <= (3 if half else 0)


@pytest.mark.parametrize('zipped, prefix', [(False, ''), (True, 'module.'),
                                            (True, 'state_dict.module.')])
def test_both_formats_and_prefixes_give_the_same_run(
    zipped, prefix, tmp_path, damsm_folder, drawn):
  for name, form in (('plain', {}), ('other', dict(zipped=zipped, prefix=prefix))):
    write_generator(tmp_path / f'{name}.pth', 'attngan', None, **form)
    assert xmc_import('attngan', tmp_path / f'{name}.pth', damsm_folder, tmp_path / name) == 0
  np.testing.assert_array_equal(drawn(tmp_path / 'plain'), drawn(tmp_path / 'other'))


@pytest.mark.parametrize('family, theirs, ours', [
    ('attngan', (2, 'img_code_s16.3.running_var'), "['d'].stats['batch_stats']['scale_2']['down_1']"
     "['norm']['norm']['var']"),
    ('attngan', (0, 'UNCOND_DNET.outlogits.0.bias'), "['d'].params['scale_0']['logit_alone']"
     "['bias']"),
    ('dm_gan', (1, 'COND_DNET.jointConv.0.module.weight_u'), "['d'].stats['spectral']['scale_1']"
     "['joint']['kernel']"),
    ('dm_gan', (2, 'img_code_s16.4.module.bias'), "['d'].params['scale_2']['down_2']['bias']"),
    ('ssa_gan', (0, 'block1.gamma'), "['d'].params['block_1']['gate']")])
def test_discriminators_are_imported(family, theirs, ours, tmp_path, damsm_folder):
  write_generator(tmp_path / 'netG.pth', family, None)
  flags = ['--discriminators', *write_discriminators(family, tmp_path)]
  assert xmc_import(family, tmp_path / 'netG.pth', damsm_folder, tmp_path / 'run', *flags) == 0
  found = leaves(tmp_path / 'run')
  number, name = theirs
  name, = (key for key in found if key.endswith(ours))
  np.testing.assert_array_equal(found[name], discriminator_states(family)[number][theirs[1]])


def test_galips_file_has_the_discriminator_too(tmp_path, clip_folder, capsys):
  state = galip_state(clip_folder)
  torch_writer.write(tmp_path / 'state_epoch_9.pth', state, zipped=True)
  run = tmp_path / 'my run'
  assert xmc_import('galip', tmp_path / 'state_epoch_9.pth', clip_folder, run, '--step=5') == 0
  told = capsys.readouterr().out
  assert 'new weights' not in told and shlex.split(told)[-2:] == [str(run), 'a red apple']
  found = tiny.saved_state(run, 5)
  for ours, theirs in (("['d'].params['read_0']['gate_other']", 'netD.module.DBlocks.0.beta'),
                       ("['d'].params['read_out']['shortcut']['bias']",
                        'netD.module.main.conv_s.bias')):
    name, = (key for key in found if key.endswith(ours))
    assert found[name] == state[f'model.{theirs}'].tobytes()


def test_an_imported_run_goes_on_training(tmp_path, damsm_folder, capsys):
  write_generator(tmp_path / 'netG.pth', 'ssa_gan', None)
  run = tmp_path / 'run'
  keys = {'data.name': 'emoji', 'data.loader': 'arrays', 'batch_size': 8, 'steps': 1, 'grid': 2,
          'terms.damsm_mask_same_class': False}
  flags = [f'--config.{key}={value}' for key, value in keys.items()]
  assert xmc_import('ssa_gan', tmp_path / 'netG.pth', damsm_folder, run, *flags) == 0
  capsys.readouterr()
  assert main(['xmc', 'train', f'--workdir={run}']) == 0
  told = capsys.readouterr().out
  assert 'steps 1 to 1' in told and 'changed' not in told
  # One step of Adam moves no weight by more than the learning rate: it began with the file's.
  name, = (key for key in leaves(run, 1) if key.endswith("['g'].params['pixels']['kernel']"))
  moved = np.abs(leaves(run, 1)[name] - leaves(run, 0)[name])
  assert 0 < moved.max() < 1.01e-4
  kernel = generator_state('ssa_gan')['conv_img.2.weight']
  np.testing.assert_array_equal(leaves(run, 0)[name], kernel.transpose(2, 3, 1, 0).ravel())


@pytest.mark.parametrize('spoil, message', [
    (lambda s: {k: x for k, x in s.items() if k != 'h_net2.residual.1.block.3.weight'},
     'no tensor h_net2.residual.1.block.3.weight'),
    (lambda s: s | {'h_net2.extra.weight': np.zeros(3, np.float32)}, 'h_net2.extra.weight'),
    (lambda s: s | {'img_net2.img.0.weight': np.zeros((3, 5, 3, 3), np.float32)},
     'img_net2.img.0.weight has the shape'),
    (lambda s: s | {'ca_net.fc.bias': np.full(12, np.nan, np.float32)}, 'ca_net.fc.bias .* NaN'),
    (lambda s: s | {'module.ca_net.fc.bias': s['ca_net.fc.bias']}, 'ca_net.fc.bias twice'),
    (lambda s: states.filled(states.dm_gan()), 'holds the generator of dm_gan, not the generator'),
    (lambda s: states.filled(states.attngan_discriminators()[2]), 'the discriminator of attngan'),
    (lambda s: states.filled(states.damsm_text()), 'the text encoder of damsm'),
    (lambda s: states.filled(states.ssa_gan()), 'the generator of ssa_gan'),
    (lambda s: states.filled(states.df_gan_of_2020()), 'first DF-GAN, of 2020, which cannot be'),
    (lambda s: {'layer1.weight': np.zeros(3, np.float32)}, 'named like layer1.weight'),
    (lambda s: states.filled(states.attngan(text=12)), 'sentences of 8 features.* reads 12')])
def test_other_files_are_refused(spoil, message, tmp_path, damsm_folder, capsys):
  torch_writer.write(tmp_path / 'netG.pth', spoil(states.filled(states.attngan())), zipped=True)
  refused(capsys, message, 'attngan', tmp_path / 'netG.pth', damsm_folder, tmp_path / 'run')
  assert not (tmp_path / 'run' / 'checkpoints').exists()


def test_another_size_than_the_configs_is_refused(tmp_path, damsm_folder, capsys):
  write_generator(tmp_path / 'netG.pth', 'attngan', None)
  argv = 'attngan', tmp_path / 'netG.pth', damsm_folder, tmp_path / 'run'
  refused(capsys, r'model.width=32: .* width 4', *argv, '--config=attngan_cub')
  refused(capsys, r'model.residuals=3: .* residuals 2', *argv, '--config.model.residuals=3')


def test_the_number_and_the_order_of_discriminators_matter(tmp_path, damsm_folder, capsys):
  write_generator(tmp_path / 'netG.pth', 'attngan', None)
  first, *others = write_discriminators('attngan', tmp_path)
  argv = 'attngan', tmp_path / 'netG.pth', damsm_folder, tmp_path / 'run', '--discriminators'
  refused(capsys, 'has 3, one file for each', *argv, first)
  refused(capsys, 'netD.*img_code_s16', *argv, *others, first)


def test_a_folder_with_a_run_is_left_alone(tmp_path, damsm_folder, capsys):
  write_generator(tmp_path / 'netG.pth', 'attngan', None)
  argv = 'attngan', tmp_path / 'netG.pth', damsm_folder, tmp_path / 'run'
  assert xmc_import(*argv) == 0
  refused(capsys, 'there is a run in it already', *argv)


def test_another_clip_than_the_one_inside_is_refused(tmp_path, clip_folder, capsys):
  write_generator(tmp_path / 'netG.pth', 'galip', clip_folder)
  variables = toys.fill(clip.spec(clip.Clip(CLIP_SIZES)), seed=4)
  clip.save(clip_folder, CLIP_SIZES, variables, clip_tokens.train(CAPTIONS, 600), 0.07)
  refused(capsys, 'other weights than the one inside', 'galip', tmp_path / 'netG.pth', clip_folder,
          tmp_path / 'run')
