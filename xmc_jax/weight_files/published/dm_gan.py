"""DM-GAN: `bird_DMGAN.pth`, `netG_epoch_N.pth`; and `netD0.pth` to `netD2.pth`, one a scale."""
from __future__ import annotations

import functools

from xmc_jax.weight_files.published import stacked
from xmc_jax.weight_files.published.rules import Arrays, Rule, length

GENERATOR = (
  *stacked.STAGES,
  Rule('h_net{n+1}.A', 'read_{n}/gate_word'),
  Rule('h_net{n+1}.B', 'read_{n}/gate_mean'),
  Rule('h_net{n+1}.M_w.0', 'read_{n}/write_word'),
  Rule('h_net{n+1}.M_r.0', 'read_{n}/write_mean'),
  Rule('h_net{n+1}.key.0', 'read_{n}/key'),
  Rule('h_net{n+1}.value.0', 'read_{n}/value'),
  Rule('h_net{n+1}.response_gate.0', 'read_{n}/response'))

# Spectral normalization keeps the kernel before it is divided under another name.
_Spectral = functools.partial(Rule, kernel='weight_bar')
DISCRIMINATOR = (
  _Spectral('img_code_s16.0', 'down_0'),
  _Spectral('img_code_s16.2', 'down_1'),
  _Spectral('img_code_s16.4', 'down_2'),
  _Spectral('img_code_s16.6', 'down_3'),
  _Spectral('img_code_s32.0', 'down_4'),
  _Spectral('img_code_s64.0', 'down_5'),
  _Spectral('img_code_s64_1.0', 'narrow_4'),
  _Spectral('img_code_s64_2.0', 'narrow_3'),
  _Spectral('img_code_s32_1.0', 'narrow_3'),
  _Spectral('COND_DNET.jointConv.0', 'joint'),
  Rule('UNCOND_DNET.outlogits.0', 'logit_alone'),
  Rule('COND_DNET.outlogits.0', 'logit_paired'))
SCALES = stacked.SCALES
sizes, text_features = stacked.sizes, stacked.text_features


def d_sizes(d: Arrays) -> dict[str, int]:
  return {'d_width': length(d, 'img_code_s16.0.weight_bar', 0)}
