"""The table of frozen networks by name, and the files with their weights.

`registry` finds and loads them. A source is a file as published, or a folder of such files.
"""
from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from types import ModuleType

from flax import linen as nn

from xmc_jax.encoders import bert, clip, efficientnet, inception, resnet, squeezenet, vgg
from xmc_jax.types import Tree
from xmc_jax.weight_files import keras_files, pickles, tf_graph_files, torch_files

_TORCH = 'https://download.pytorch.org/models/'
_TF = 'https://storage.googleapis.com/download.tensorflow.org/models/image/imagenet/'
_KERAS = 'https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/'
_CLIP = 'https://huggingface.co/openai/'
_BERT = ('https://huggingface.co/google-bert/bert-base-uncased/resolve/'
         '86b5e0934494bd15c9632b12f734a8a67f723594/')


@dataclasses.dataclass(frozen=True)
class WeightSource:
  """A published file or folder with the weights of an entry.

  Attributes:
    file: name of the file or folder.
    load: from its path to a network and its variables; UserError if it is damaged or belongs to
      another network.
    sha256: of the file, or of `parts[0]`; at least the first digits. Empty if unknown.
    url: where it is published; for a folder, the common prefix of its parts. Empty if it comes only
      in a package, or is not published separately.
    parts: the files of a folder; the first one has the weights.
    package, pip: `(package, path in it)` of an installed package, and the command to install it.
  """

  file: str
  load: Callable[[pathlib.Path], tuple[nn.Module, Tree]]
  sha256: str = ''
  url: str = ''
  parts: tuple[str, ...] = ()
  package: tuple[str, str] | None = None
  pip: str = ''

  def weights(self, path: pathlib.Path) -> pathlib.Path:
    """The file with the weights, whose hash is checked."""
    return path / self.parts[0] if self.parts else path

  def is_at(self, path: pathlib.Path) -> bool:
    """Whether all files of this source exist at `path`."""
    return all((path / part).is_file() for part in self.parts) if self.parts else path.is_file()


@dataclasses.dataclass(frozen=True)
class Entry:
  """A network that is known by name.

  Attributes:
    about: what it is, what it was trained on, and the license of the weights.
    sources: accepted files, in order of preference.
    side: pixels per side of its input images; 0 if its inputs are captions only.
    module: creates the network, for random weights; None if a file has the sizes.
  """

  about: str
  sources: tuple[WeightSource, ...]
  side: int
  module: Callable[[], nn.Module] | None = None


def _loader(read: Callable, module: Callable[[], nn.Module], convert: Callable):
  """The `load` of a source, from a reader of files and `convert(arrays, module)`."""

  def load(path: pathlib.Path) -> tuple[nn.Module, Tree]:
    network = module()
    return network, convert(read(path), network)

  return load


def _inception(variant: str, sources: Mapping[Callable, tuple[tuple[str, str, str], ...]],
               about: str) -> Entry:
  """`sources` has tuples (url, file, hash) for each reader."""
  convert = {
    torch_files.read: lambda arrays, _: inception.from_torch(arrays, variant),
    tf_graph_files.read: lambda arrays, _: inception.from_graph(arrays),
    keras_files.read: lambda arrays, _: inception.from_keras(arrays)}

  def module():
    return inception.Inception(variant)

  return Entry(about, tuple(
    WeightSource(file, _loader(read, module, convert[read]), sha256, url and url + file)
    for read, rows in sources.items() for url, file, sha256 in rows), inception.SIDE, module)


def _torchvision(module: Callable[[], nn.Module], convert: Callable, side: int, about: str,
                 *names: str) -> Entry:
  """From torchvision's files, whose names end with the first digits of their hash."""
  load = _loader(torch_files.read, module, convert)
  sources = (WeightSource(f'{name}.pth', load, name.rsplit('-')[-1], f'{_TORCH}{name}.pth')
             for name in names)
  return Entry(about, tuple(sources), side, module)


def _package(module: Callable[[], nn.Module], read: Callable, convert: Callable,
             home: ModuleType, sha256: str, about: str) -> Entry:
  """From an installed package; `home` is the module of this package that defines it."""
  file = pathlib.PurePosixPath(home.PACKAGE[1]).name
  source = WeightSource(file, _loader(read, module, convert), sha256, package=home.PACKAGE,
                        pip=home.PIP)
  return Entry(about, (source,), home.SIDE, module)


def _clip(name: str, revision: str, sha256: str, side: int, about: str) -> Entry:
  """In Hugging Face's layout; OpenAI published the weights only as pytorch_model.bin."""
  rest = ('config.json', 'tokenizer.json')
  return Entry(about, (
    WeightSource(name, clip.load, parts=('model.safetensors', *rest)),
    WeightSource(name, clip.load, sha256, f'{_CLIP}{name}/resolve/{revision}/',
           ('pytorch_model.bin', *rest))), side)


def _bert(about: str, sha256: Mapping[str, str], url: str = '', **package) -> Entry:
  """In Hugging Face's layout; `sha256` has the hash of each possible weight file."""
  name = bert.MINILM if package else bert.BASE
  return Entry(about, tuple(
    WeightSource(name, bert.load, digits, url, (file, 'config.json', words), **package)
    for file, digits in sha256.items() for words in ('tokenizer.json', 'vocab.txt')), 0)


_FID = '6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2'

ENTRIES: Mapping[str, Entry] = {
  'inception-tf2015': _inception('tf2015', {
    torch_files.read: (
      ('https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/',
       'pt_inception-2015-12-05-6726825d.pth', _FID),
      ('https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/',
       'weights-inception-2015-12-05-6726825d.pth', _FID)),
    tf_graph_files.read: (
      (_TF, 'inception-2015-12-05.tgz', ''), ('', 'classify_image_graph_def.pb', ''))},
    'Inception-v3 of December 2015, ImageNet: for FID and the Inception Score; Apache-2.0'),
  'inception-torchvision': _inception('torchvision', {
    torch_files.read: (
      (_TORCH, 'inception_v3_google-0cc3c7bd.pth', '0cc3c7bd'),
      (_TORCH, 'inception_v3_google-1a9a5a14.pth', '1a9a5a14'))},
    'Inception-v3 of torchvision, ImageNet: for the FID of DM-GAN, DF-GAN and GALIP; BSD-3'),
  'inception-keras': _inception('keras', {
    keras_files.read: (
      (_KERAS, 'inception_v3_weights_tf_dim_ordering_tf_kernels.h5',
       '00c9ea4e4762f716ac4d300d6d9c2935639cc5e4d139b5790d765dcbeea539d0'),)},
    "InceptionV3 of Keras, ImageNet: for the FID of XMC-GAN's released code; Apache-2.0"),
  'resnet50': _torchvision(
    resnet.ResNet50, resnet.from_torch, resnet.SIDE,
    "ResNet-50 of torchvision, ImageNet: as in XMC-GAN's image loss; BSD-3",
    'resnet50-0676ba61', 'resnet50-11ad3fa6'),
  'vgg16': _torchvision(
    vgg.Vgg, vgg.from_torch, vgg.SIDE,
    'VGG-16 of torchvision, ImageNet: for improved precision and recall; BSD-3',
    'vgg16-397923af'),
  'vgg19': _torchvision(
    lambda: vgg.Vgg(vgg.STAGES_19), vgg.from_torch, vgg.SIDE,
    'VGG-19 of torchvision, ImageNet; BSD-3', 'vgg19-dcbb9e9d'),
  'vgg16-backbone': _package(
    vgg.VggConvs, pickles.read, vgg.from_package, vgg,
    '2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d',
    'The convolutions of vgg16, ImageNet; BSD-3'),
  'clip-vit-base-patch32': _clip(
    'clip-vit-base-patch32', '3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268',
    'a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f', 224,
    'CLIP ViT-B/32 of OpenAI, 400 million captioned images: for CLIP scores; MIT'),
  'clip-vit-large-patch14-336': _clip(
    'clip-vit-large-patch14-336', 'ce19dc912ca5cd21c8a653c79e251e808ccabcd1',
    'c6032c2e0caae3dc2d4fba35535fa6307dbb49df59c7e182b1bc4b3329b81801', 336,
    'CLIP ViT-L/14 at 336 px of OpenAI, 400 million captioned images: for CMMD; MIT'),
  bert.BASE: _bert(
    "BERT-base, uncased, Wikipedia and BookCorpus: XMC-GAN's text encoder; Apache-2.0",
    {'model.safetensors': '68d45e234eb4a928074dfd868cead0219ab85354cc53d20e772753c6bb9169d3',
     'pytorch_model.bin': '097417381d6c7230bd9e3557456d726de6e83245ec8b24f529f60198a67b203a'},
    _BERT),
  bert.MINILM: _bert(
    'MiniLM, a BERT of 6 layers for sentences: text encoder of the small configs; Apache-2.0',
    {'model.safetensors': '53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db'},
    package=bert.PACKAGE, pip=bert.MINILM_PIP),
  'efficientnet-lite0': _package(
    efficientnet.EfficientNetLite0, torch_files.read, efficientnet.from_torch, efficientnet,
    '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db',
    'EfficientNet-Lite0, ImageNet: for a Frechet distance without a download; Apache-2.0'),
  'squeezenet': _package(
    squeezenet.SqueezeNet, pickles.read, squeezenet.from_package, squeezenet,
    'f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1',
    'SqueezeNet 1.1, ImageNet: for Swift and the DAMSMs at 64 px; MIT'),
}
