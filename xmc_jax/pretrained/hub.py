"""Models on the Hugging Face Hub."""
from __future__ import annotations

import os
import pathlib

from xmc_jax.types import UserError
from xmc_jax.utils.mirror import first_line
from xmc_jax.utils.optional import extra


def download(repo_id: str) -> pathlib.Path:
  """The folder of a repository, 'org/name', in the cache of huggingface_hub.

  It is downloaded if it is not there in its newest version; without a network, or with
  HF_HUB_OFFLINE=1, the version in the cache is used.

  Raises:
    UserError: huggingface_hub is not installed; or the repository does not exist, or cannot be
      reached and is not in the cache.
  """
  with extra('hub', f'the model {repo_id} of the Hugging Face Hub'):
    import huggingface_hub
  try:
    return pathlib.Path(huggingface_hub.snapshot_download(repo_id))
  except Exception as error:      # of many kinds, of the Hub, the network and the disk
    raise UserError(f'the model {repo_id!r} is neither a folder here nor could it be downloaded '
                    f'from the Hugging Face Hub ({first_line(error)})') from error


def upload(repo_id: str, path: str | os.PathLike[str], *, private: bool = False,
           token: str | None = None) -> str:
  """Uploads a model folder to a repository, which is created if it is missing.

  Returns:
    The address of the commit.
  Raises:
    UserError: huggingface_hub is not installed, or the Hub refuses.
  """
  with extra('hub', 'push_to_hub'):
    import huggingface_hub
  api = huggingface_hub.HfApi(token=token)
  try:
    api.create_repo(repo_id, private=private, exist_ok=True)
    return str(api.upload_folder(repo_id=repo_id, folder_path=path,
                                 commit_message='Upload a model of xmc_jax'))
  except Exception as error:
    raise UserError(f'the model could not be uploaded to {repo_id!r} ({first_line(error)})'
                    ) from error
