"""`xmc demo`: a page of Gradio on which one draws with any run or model; Python does the work."""
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from xmc_jax.page.build import of_data
from xmc_jax.pretrained import folder
from xmc_jax.pretrained.model import Model
from xmc_jax.types import UserError
from xmc_jax.utils.optional import extra

if TYPE_CHECKING:
  import gradio

_MOST = 16             # images at once
_OFF = 3.0             # the right end of the slider of truncation, which switches it off
_REMEMBERED = 48       # images of the history


def app(model: Model, captions: Sequence[str] = ()) -> gradio.Blocks:
  """The page, not yet served.

  Args:
    model: draws.
    captions: to try; none: of the data set of the model's training, if it is here.
  Raises:
    UserError: gradio is not installed, or a caption is not one of the model.
  """
  with extra('demo', '`xmc demo`'):
    import gradio as gr
  generator = model.generator
  generator.tokenizer.check_captions(captions, generator.config.text.script)
  offered = list(captions) or of_data(generator.config, generator.tokenizer,
                                      own=not folder.is_model(model.path))

  def draw(caption, count, seed, truncation, history):
    try:
      if None in (caption, count, truncation):      # programs may leave them out
        raise UserError('a caption, a number of images and a truncation are needed')
      drawn = model(caption, num_images=int(count), seed=_seed(seed),
                    truncation=None if truncation >= _OFF else truncation)
    except UserError as error:
      raise gr.Error(str(error), print_exception=False) from error
    new = [(image, f'{caption}, seed {int(seed)}') for image in drawn.images]
    history = [*new, *history][:_REMEMBERED]
    return drawn.images, history, history

  name = model.path.resolve().name
  with gr.Blocks(title=f'{name}: text to image', analytics_enabled=False,
                 delete_cache=(3600, 3600)) as page:      # seconds: how often, how old
    gr.Markdown(f'# {name}\nType a caption and press Enter. {generator.weights.capitalize()} '
                f'weights of step {generator.step:,}, {generator.config.model.size} px.')
    history = gr.State([])
    caption = gr.Textbox(offered[0] if offered else '', label='Caption', max_length=400)
    if offered:
      gr.Examples([[text] for text in offered], caption, label='Captions to try')
    with gr.Row():
      count = gr.Slider(1, _MOST, 4, step=1, label='Images')
      seed = gr.Number(0, label='Seed', precision=0, minimum=0, maximum=2**32 - 1)
      truncation = gr.Slider(0.1, _OFF, _OFF, step=0.1, label='Truncation',
                             info=f'less variety below {_OFF:g}, where it is off')
    button = gr.Button('Draw', variant='primary')
    images = gr.Gallery(label='Images', columns=4, format='png', object_fit='contain')
    past = gr.Gallery(label='History', columns=8, height=240, format='png',
                      object_fit='contain')
    gr.on([button.click, caption.submit], draw, [caption, count, seed, truncation, history],
          [images, past, history], api_name='draw')
  return page


def _seed(value: float | None) -> int:
  if value is None or not 0 <= value < 2**32 or value != np.floor(value):
    raise UserError('the seed must be a whole number from 0 to 4,294,967,295')
  return int(value)


def serve(model: Model, captions: Sequence[str] = (), *, host: str = '127.0.0.1',
          port: int | None = None) -> None:
  """Serves the page of `app` until Ctrl-C; UserError as of `app`, or if the port is taken."""
  os.environ.setdefault('GRADIO_ANALYTICS_ENABLED', 'False')
  page = app(model, captions)
  try:
    page.launch(server_name=host, server_port=port)
  except OSError as error:
    raise UserError(f'--port={port}: {host} cannot be listened to there ({error}); give another '
                    '--port, or none for the first that is free') from error
