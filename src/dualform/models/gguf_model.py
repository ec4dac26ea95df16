"""A language model in a GGUF file of llama.cpp's, brought into transformers' names, and its tokenizer."""

import json
from typing import Any

import numpy as np

from dualform.errors import FileError
from dualform.models.files.checks import Arrays, Metadata, library
from dualform.models.layouts.tensors import Config
from dualform.models.published_tokens import check_merges
from dualform.reading import guarded, reason, whole

ARCHITECTURES = {"llama": True, "qwen2": False}
"""The architectures that are read, and whether llama.cpp has the rows of their queries and keys in pairs: a head's channels
(0, 1), (2, 3), ... are turned against each other there, and (0, w / 2), (1, w / 2 + 1), ... in transformers."""

_OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_SIZES = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
    "rope.dimension_count": "head_dim",
}
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
SPLITS: dict[str, str | None] = {
    "gpt-2": None,
    "default": None,
    "smollm": "digits",
    "llama-bpe": _SHORT + _LETTERS + r"\p{N}{1,3}" + _REST,
    "qwen2": _SHORT + _LETTERS + r"\p{N}" + _REST,
}
"""How text is cut before the merges, by the name in the file: as in GPT-2 (None), the same with each digit by itself, or by a
regular expression."""


def gguf_config(metadata: Metadata, arrays: Arrays, where: str) -> Config:
    """The config.json that transformers would have.

    **Raises:** `FileError` for another architecture, or a number that is missing or none.
    """
    kind = metadata.get("general.architecture", "")
    if kind not in ARCHITECTURES:
        raise FileError(
            f"{where} is a GGUF file of the architecture {kind!r}; {' and '.join(ARCHITECTURES)} can be read here."
        )
    fields: dict[str, Any] = {"model_type": kind, "tie_word_embeddings": "output.weight" not in arrays}
    for key, name in _SIZES.items():
        said = metadata.get(f"{kind}.{key}")
        if said is None:
            continue
        try:
            value = json.loads(said)
        except ValueError:
            value = None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise FileError(f"{where} says {kind}.{key} {said[:40]!r}, which is no number. It is damaged.")
        # A float32 of 1e-5 is written out as 9.999999747378752e-06.
        fields[name] = value if isinstance(value, int) else float(str(np.float32(value)))
    ends = gguf_ends(metadata)
    fields |= {"eos_token_id": ends[0] if len(ends) == 1 else ends} if ends else {}
    scaling = metadata.get(f"{kind}.rope.scaling.type", "none")
    if scaling != "none":
        fields["rope_scaling"] = scaling
    return Config(fields, where)


def gguf_tensors(arrays: Arrays, config: Config) -> Arrays:
    """The tensors under transformers' names, the rows of queries and keys in its order.

    **Raises:** `FileError` where heads do not divide the rows.
    """
    paired, found = ARCHITECTURES[config.text("model_type", "")], {}
    heads = config.needed("num_attention_heads", "GGUF file")
    counts = {"attn_q": heads, "attn_k": config.integer("num_key_value_heads", heads)}
    for name, array in arrays.items():
        part, _, kind = name.rpartition(".")
        layer = part.split(".", 2)
        if part in _OUTER:
            found[f"{_OUTER[part]}.{kind}"] = array
        elif len(layer) == 3 and layer[0] == "blk" and layer[2] in _INNER:
            if paired and layer[2] in counts:
                array = _halves(name, array, counts[layer[2]], config.where)
            found[f"model.layers.{layer[1]}.{_INNER[layer[2]]}.{kind}"] = array
        else:
            found[name] = array  # which no layout takes, and so is said to be left over
    return found


def _halves(name: str, array: np.ndarray, heads: int, where: str) -> np.ndarray:
    """The rows of each head, those of even places first."""
    if heads < 1 or len(array) % (2 * heads):
        raise FileError(
            f"{name} in {where} has {len(array)} rows, which are not {heads} heads of pairs. It is damaged."
        )
    pairs = array.reshape(heads, -1, 2, *array.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(array.shape)


def gguf_ends(metadata: Metadata) -> list[int]:
    """The tokens that end a text: llama.cpp stops at the end of a text, of a turn and of a message alike."""
    said = (whole(metadata.get(f"tokenizer.ggml.{name}_token_id")) for name in ("eos", "eot", "eom"))
    return list(dict.fromkeys(end for end in said if end is not None))


def gguf_tokenizer(metadata: Metadata, where: str) -> str | None:
    """The file's own tokenizer as a tokenizer.json, None where it is none of byte-level BPE with a known `SPLITS`.

    It puts a token before a text where the file says so, and where it says nothing as llama.cpp does: in "llama-bpe" alone.

    **Raises:** `FileError` where tokenizers is not installed, or tokens and merges do not fit together.
    """
    split = metadata.get("tokenizer.ggml.pre", "default")
    if metadata.get("tokenizer.ggml.model") != "gpt2" or split not in SPLITS:
        return None
    t = library("tokenizers", "tokenizers of GGUF files")
    refusal = lambda error: FileError(
        f"the tokenizer in {where} does not fit together ({reason(error)}). Copy it again."
    )
    with guarded(refusal):
        tokens = json.loads(metadata["tokenizer.ggml.tokens"])
        merges = [tuple(merge.split(" ")) for merge in json.loads(metadata["tokenizer.ggml.merges"])]
        kinds = json.loads(metadata.get("tokenizer.ggml.token_type", "[]"))
        vocabulary = {token: i for i, token in enumerate(tokens)}
        if len(vocabulary) != len(tokens) or len(kinds) not in (0, len(tokens)):
            raise ValueError("a token is there twice, or has no type")
        check_merges(vocabulary, merges)
        tokenizer = t.Tokenizer(t.models.BPE(vocab=vocabulary, merges=merges, ignore_merges=split == "llama-bpe"))
        tokenizer.pre_tokenizer = _pre_tokenizer(t, SPLITS[split])
        tokenizer.decoder = t.decoders.ByteLevel()
        # 3: a token of control, such as the end of a text; 4: one that the model's makers added.
        for kind, special in ((3, True), (4, False)):
            own = [token for token, each in zip(tokens, kinds, strict=False) if each == kind and token]
            added = [t.AddedToken(token, special=special) for token in own]
            (tokenizer.add_special_tokens if special else tokenizer.add_tokens)(added)
        begin = _begin(metadata, split)
        if begin is not None:
            named = {"id": "begin", "ids": [begin], "tokens": [tokens[begin]]}
            tokenizer.post_processor = t.processors.TemplateProcessing(single="begin $A", special_tokens=[named])
        return tokenizer.to_str()


def _begin(metadata: Metadata, split: str) -> int | None:
    """The token that stands before a text, None where none does."""
    said = metadata.get("tokenizer.ggml.add_bos_token", "true" if split == "llama-bpe" else "false")
    if said not in ("true", "false"):
        raise ValueError(f"add_bos_token is {said!r}")
    begin = whole(metadata.get("tokenizer.ggml.bos_token_id"))
    if said == "true" and begin is None and "tokenizer.ggml.add_bos_token" in metadata:
        raise ValueError("a token is to stand before a text, and bos_token_id does not say which")
    return begin if said == "true" else None


def _pre_tokenizer(t: Any, split: str | None) -> Any:
    bytes_of = t.pre_tokenizers.ByteLevel
    if split is None:
        return bytes_of(add_prefix_space=False)
    if split == "digits":
        first, then = t.pre_tokenizers.Digits(individual_digits=True), bytes_of(add_prefix_space=False)
    else:
        first = t.pre_tokenizers.Split(t.Regex(split), "isolated")
        then = bytes_of(add_prefix_space=False, use_regex=False)
    return t.pre_tokenizers.Sequence([first, then])
