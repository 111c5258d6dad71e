"""`xmc import df_gan`: the whole file of its authors, files of one network, and what is refused."""
import importlib.util

import numpy as np
import published_states as states
import pytest
import tiny
import torch_writer
from published_runs import grey_levels, leaves, refused, whole_state, xmc_import

from xmc_jax import importing
from xmc_jax.cli.main import main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('compiled_once', 'filled')]

HAS_TORCH = importlib.util.find_spec('torch') is not None


def generator():
  return states.filled(states.df_gan())


def discriminator():
  """netD and netC in one dict."""
  netd, netc = (states.filled(shapes, seed=4) for shapes in states.df_gan_discriminator())
  return netd | netc


def published():
  return whole_state(generator(), states.df_gan_discriminator())


def write(path, state, zipped=True):
  torch_writer.write(path, state, zipped)
  return path


def test_the_authors_file_has_the_discriminator_too(tmp_path, damsm_folder, capsys):
  path = write(tmp_path / 'state_epoch_9.pth', published())
  assert xmc_import('df_gan', path, damsm_folder, tmp_path / 'run', '--step=5') == 0
  assert 'new weights' not in capsys.readouterr().out
  found, wanted = leaves(tmp_path / 'run', 5), discriminator()
  for ours, theirs in (("['block_2']['gate']", 'DBlocks.2.gamma'),
                       ("['block_0']['shortcut']['bias']", 'DBlocks.0.conv_s.bias'),
                       ("['start']['bias']", 'conv_img.bias'),
                       ("['logit']['kernel']", 'joint_conv.2.weight')):
    name, = (key for key in found if key.endswith(f"['d'].params{ours}"))
    flat = wanted[theirs].transpose(2, 3, 1, 0) if wanted[theirs].ndim == 4 else wanted[theirs]
    np.testing.assert_array_equal(found[name], flat.ravel())


@pytest.mark.skipif(not HAS_TORCH, reason='needs torch')
@pytest.mark.parametrize('form', ['zip', 'stream', 'half'])
def test_what_torch_saves_with_its_optimizers_is_read(form, tmp_path, damsm_folder, drawn):
  import torch
  dtype = torch.float16 if form == 'half' else torch.float32
  tensors = {name: torch.from_numpy(np.array(x)).to(dtype) for name, x in generator().items()}
  netd, netc = ({name: torch.from_numpy(np.array(x)).to(dtype) for name, x in states.filled(
      shapes, seed=4).items()} for shapes in states.df_gan_discriminator())
  weight = torch.nn.Parameter(torch.ones(3))
  adam = torch.optim.Adam([weight], 1e-4, (0.0, 0.9))
  weight.sum().backward()
  adam.step()
  saved = {'model': {'netG': tensors, 'netD': netd, 'netC': netc},
           'optimizers': {'optimizer_G': adam.state_dict(), 'optimizer_D': adam.state_dict()},
           'epoch': 9}
  torch.save(saved, tmp_path / 'state.pth', _use_new_zipfile_serialization=form != 'stream')
  write(tmp_path / 'plain.pth', generator())
  for name in ('state', 'plain'):
    assert xmc_import('df_gan', tmp_path / f'{name}.pth', damsm_folder, tmp_path / name) == 0
  images = drawn(tmp_path / 'state'), drawn(tmp_path / 'plain')
  assert grey_levels(*images) <= (3 if form == 'half' else 0)


def test_sizes_are_those_of_the_shapes(tmp_path, damsm_folder):
  for blocks, size in ((3, 32), (4, 64)):
    path = write(tmp_path / f'{size}.pth', states.filled(states.df_gan(width=2, blocks=blocks)))
    read = importing.read('df_gan', path)
    config = importing.default_config(read, str(damsm_folder))
    assert (config.model.size, config.model.width, config.model.z_features) == (size, 2, 5)


def test_the_discriminator_may_have_a_file_of_its_own(tmp_path, damsm_folder):
  write(tmp_path / 'netG.pth', generator())
  write(tmp_path / 'netD.pth', discriminator(), zipped=False)
  assert xmc_import('df_gan', tmp_path / 'netG.pth', damsm_folder, tmp_path / 'run',
                    '--discriminators', str(tmp_path / 'netD.pth')) == 0
  name, = (key for key in tiny.saved_state(tmp_path / 'run', 0)
           if key.endswith("['d'].params['block_1']['gate']"))
  np.testing.assert_array_equal(leaves(tmp_path / 'run')[name], discriminator()['DBlocks.1.gamma'])


def without(name):
  return {key: x for key, x in published().items() if not key.endswith(name)}


@pytest.mark.parametrize('spoilt, message', [
    (lambda: without('GBlocks.1.fuse2.affine0.fc_beta.linear2.bias'),
     'no tensor GBlocks.1.fuse2.affine0.fc_beta.linear2.bias'),
    (lambda: without('netC.module.joint_conv.2.weight'), 'no tensor joint_conv.2.weight'),
    (lambda: published() | {'model.netG.module.extra.weight': np.zeros(3, np.float32)},
     'extra.weight'),
    (lambda: published() | {'model.netD.module.DBlocks.0.beta': np.zeros(1, np.float32)},
     'DBlocks.0.beta'),
    (lambda: published() | {'model.netG.module.to_rgb.1.bias': np.full(3, np.nan, np.float32)},
     'to_rgb.1.bias .* NaN'),
    (lambda: published() | {'model.netD.module.conv_img.weight': np.zeros((6, 3, 3, 3), 'f4')},
     'model.width=6, but the generator has 4'),
    (lambda: states.filled(states.df_gan_of_2020()),
     'the generator of the first DF-GAN, of 2020, .* give state_epoch_N.pth of .* CVPR 2022'),
    (lambda: states.filled(states.ssa_gan()), 'the generator of ssa_gan'),
    (lambda: states.filled(states.galip()), 'the generator of galip'),
    (lambda: states.filled(states.df_gan(text=12)), 'sentences of 8 features.* reads 12')])
def test_other_files_are_refused(spoilt, message, tmp_path, damsm_folder, capsys):
  path = write(tmp_path / 'state_epoch_9.pth', spoilt())
  refused(capsys, message, 'df_gan', path, damsm_folder, tmp_path / 'run')
  assert not (tmp_path / 'run' / 'checkpoints').exists()


@pytest.mark.parametrize('family', ['galip', 'ssa_gan'])
def test_its_files_are_not_those_of_its_descendants(family, tmp_path, damsm_folder, capsys):
  path = write(tmp_path / 'netG.pth', generator())
  refused(capsys, 'holds the generator of df_gan.* `xmc import df_gan`', family, path, damsm_folder,
          tmp_path / 'run')


def test_the_first_version_is_no_ssa_gan(tmp_path, damsm_folder, capsys):
  path = write(tmp_path / 'netG.pth', states.filled(states.df_gan_of_2020()))
  refused(capsys, 'the first DF-GAN, of 2020', 'ssa_gan', path, damsm_folder, tmp_path / 'run')


@pytest.mark.thorough
def test_an_imported_run_goes_on_training_both_networks(tmp_path, damsm_folder, capsys):
  path, run = write(tmp_path / 'state_epoch_9.pth', published()), tmp_path / 'run'
  keys = {'data.name': 'emoji', 'data.loader': 'arrays', 'batch_size': 8, 'steps': 1, 'grid': 2}
  flags = [f'--config.{key}={value}' for key, value in keys.items()]
  assert xmc_import('df_gan', path, damsm_folder, run, *flags) == 0
  capsys.readouterr()
  assert main(['xmc', 'train', f'--workdir={run}']) == 0
  assert 'steps 1 to 1' in capsys.readouterr().out
  # One step of Adam moves no weight by more than the learning rate: it began with the file's.
  for ending, rate in (("['g'].params['pixels']['kernel']", 1e-4),
                       ("['d'].params['logit']['kernel']", 4e-4)):
    name, = (key for key in leaves(run, 1) if key.endswith(ending))
    moved = np.abs(leaves(run, 1)[name] - leaves(run, 0)[name])
    assert 0 < moved.max() < 1.01 * rate and leaves(run, 0)[name].std() > 0.1
