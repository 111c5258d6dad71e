"""AttnGAN: `bird_AttnGAN2.pth`, `netG_epoch_N.pth`; and `netD0.pth` to `netD2.pth`, one a scale."""
from __future__ import annotations

from xmc_jax.weight_files.published import stacked
from xmc_jax.weight_files.published.rules import Arrays, Rule, length

GENERATOR = (*stacked.STAGES, Rule('h_net{n+1}.att.conv_context', 'read_{n}/words'))
DISCRIMINATOR = (
  Rule('img_code_s16.0', 'down_0'),
  Rule('img_code_s16.2', 'down_1/conv'),
  Rule('img_code_s16.3', 'down_1/norm'),
  Rule('img_code_s16.5', 'down_2/conv'),
  Rule('img_code_s16.6', 'down_2/norm'),
  Rule('img_code_s16.8', 'down_3/conv'),
  Rule('img_code_s16.9', 'down_3/norm'),
  Rule('img_code_s32.0', 'down_4/conv'),
  Rule('img_code_s32.1', 'down_4/norm'),
  Rule('img_code_s64.0', 'down_5/conv'),
  Rule('img_code_s64.1', 'down_5/norm'),
  Rule('img_code_s64_1.0', 'narrow_4/conv'),
  Rule('img_code_s64_1.1', 'narrow_4/norm'),
  Rule('img_code_s64_2.0', 'narrow_3/conv'),
  Rule('img_code_s64_2.1', 'narrow_3/norm'),
  Rule('img_code_s32_1.0', 'narrow_3/conv'),
  Rule('img_code_s32_1.1', 'narrow_3/norm'),
  Rule('COND_DNET.jointConv.0', 'joint/conv'),
  Rule('COND_DNET.jointConv.1', 'joint/norm'),
  Rule('UNCOND_DNET.outlogits.0', 'logit_alone'),
  Rule('COND_DNET.outlogits.0', 'logit_paired'))
SCALES = stacked.SCALES
sizes, text_features = stacked.sizes, stacked.text_features


def d_sizes(d: Arrays) -> dict[str, int]:
  return {'d_width': length(d, 'img_code_s16.0.weight', 0)}
