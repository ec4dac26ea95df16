"""A language model in a GGUF file of llama.cpp's, brought into transformers' names, and its tokenizer."""

import json
from collections.abc import Collection
from typing import Any

import numpy as np

from dualform.checkpoints.files.checks import Arrays, Metadata, library
from dualform.checkpoints.layouts.config import COUNT, EPSILON, POSITIVE, Config, Form, fixed, ignored, read
from dualform.errors import FileError
from dualform.published_tokens import check_merges
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
KIND = "GGUF file"
FORM = Form(
    "llama.cpp",
    "llama, qwen2",
    (),
    (
        read("block_count", COUNT, asked="num_hidden_layers"),
        read("context_length", COUNT, asked="max_position_embeddings"),
        read("embedding_length", COUNT, asked="hidden_size"),
        read("feed_forward_length", COUNT, asked="intermediate_size"),
        read("vocab_size", COUNT),
        read("attention.head_count", COUNT, asked="num_attention_heads"),
        read("attention.head_count_kv", COUNT, asked="num_key_value_heads"),
        read("attention.layer_norm_rms_epsilon", EPSILON, asked="rms_norm_eps"),
        read("rope.freq_base", POSITIVE, 10_000.0, asked="rope_theta"),
        read("attention.key_length", COUNT, asked="head_dim", also=("attention.value_length", "rope.dimension_count")),
        fixed("rope.scaling.type", "none", "linear"),
        fixed("rope.scaling.factor", 1.0, 0.0),
        fixed("rope.scale_linear", 1.0, 0.0),
        fixed("rope.scaling.attn_factor", 1.0),
        fixed("attention.causal", True),
        fixed("expert_count", 0),
        fixed("expert_used_count", 0),
        *ignored(
            "of scaled angles, which are not read", "rope.scaling.original_context_length", "rope.scaling.finetuned"
        ),
        *ignored("the rows of queries and keys are in pairs whatever is said", "tensor_data_layout"),
    ),
)
"""What llama.cpp's headers may say behind `llama.` or `qwen2.`; other keys are of the file, its maker and its tokenizer.

A factor of the angles without a type is linear there, under the older name as well, and one of 1 or 0 scales nothing.
"""
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


def gguf_config(metadata: Metadata, arrays: Arrays, where: str) -> dict[str, Any]:
    """What the config.json of transformers would say.

    **Raises:** `FileError` for another architecture, a part of a model, a key that is not known, or a value that no model has.
    """
    kind = metadata.get("general.architecture", "")
    if kind not in ARCHITECTURES:
        raise FileError(
            f"{where} is a GGUF file of the architecture {kind!r}; {' and '.join(ARCHITECTURES)} can be read here."
        )
    if metadata.get("split.count", "0") not in ("0", "1"):
        raise FileError(
            f"{where} is one part of {metadata['split.count']} of a split file. Join them: gguf-split --merge FIRST WHOLE."
        )
    if metadata.get("general.type", "model") != "model":
        raise FileError(f"{where} holds no model: its general.type is {metadata['general.type'][:40]!r}. Take another.")
    said = {key: value for key, value in metadata.items() if key.startswith(f"{kind}.")}
    found = {key.removeprefix(f"{kind}."): _value(key, value, where) for key, value in said.items()}
    config = Config(found, f"{where}, whose keys begin with {kind}.,", FORM, KIND)
    fields: dict[str, Any] = {"model_type": kind, "tie_word_embeddings": "output.weight" not in arrays}
    for key in FORM.keys:
        if key.role == "read" and (config.says(key.asked) or key.default is not None):
            # A float32 of 1e-5 is written out as 9.999999747378752e-06.
            value = config[key.asked]
            fields[key.asked] = float(str(np.float32(value))) if isinstance(value, float) else value
    config.needed("rms_norm_eps")
    if kind == "llama":
        fields |= {"attention_bias": "blk.0.attn_q.bias" in arrays, "mlp_bias": "blk.0.ffn_gate.bias" in arrays}
    elif fields.pop("head_dim", None) not in (None, _width(fields)):
        raise config.wrong("head_dim", f"{_width(fields)}, the width of a head")
    fields.setdefault("num_key_value_heads", fields.get("num_attention_heads"))
    ends = gguf_ends(metadata)
    return fields | ({"eos_token_id": ends[0] if len(ends) == 1 else ends} if ends else {})


def _width(fields: dict[str, Any]) -> int:
    return fields.get("hidden_size", 0) // fields.get("num_attention_heads", 1)


def _value(key: str, said: str, where: str) -> Any:
    """A value of the header; a list with one of each layer is that value where they are all one.

    **Raises:** `FileError` where layers differ.
    """
    try:
        value = json.loads(said)
    except (ValueError, RecursionError):
        return said  # a text
    if isinstance(value, list) and value and all(each == value[0] for each in value):
        return value[0]
    if isinstance(value, list):
        raise FileError(
            f"{where} says {key} {said[:60]}, another value for each layer; what can be read here has one for all layers. Take "
            "another checkpoint."
        )
    return value


def gguf_tensors(arrays: Arrays, fields: dict[str, Any], where: str) -> Arrays:
    """The tensors under transformers' names, the rows of queries and keys in its order.

    **Raises:** `FileError` where heads do not divide the rows.
    """
    paired, found = ARCHITECTURES[fields["model_type"]], {}
    if "num_attention_heads" not in fields:
        raise FileError(f"{where} does not say attention.head_count, which no shape tells. Convert it again.")
    counts = {"attn_q": fields["num_attention_heads"], "attn_k": fields["num_key_value_heads"]}
    for name, array in arrays.items():
        part, _, kind = name.rpartition(".")
        layer = part.split(".", 2)
        if part in _OUTER:
            found[f"{_OUTER[part]}.{kind}"] = array
        elif len(layer) == 3 and layer[0] == "blk" and layer[2] in _INNER:
            if paired and layer[2] in counts:
                array = _halves(name, array, counts[layer[2]], where)
            found[f"model.layers.{layer[1]}.{_INNER[layer[2]]}.{kind}"] = array
        elif name == "rope_freqs.weight" and np.all(array == 1):
            pass  # factors of the angles, which change nothing
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
        if len(kinds) not in (0, len(tokens)):
            raise ValueError("a token has no type")
        # Of tokens with one text the last is written, as in llama.cpp; the others keep their numbers under names of their own.
        last = {token: i for i, token in enumerate(tokens)}
        vocabulary = {token if last[token] == i else _hidden(token, i, last): i for i, token in enumerate(tokens)}
        check_merges(vocabulary, merges)
        tokenizer = t.Tokenizer(t.models.BPE(vocab=vocabulary, merges=merges, ignore_merges=split == "llama-bpe"))
        tokenizer.pre_tokenizer = _pre_tokenizer(t, SPLITS[split])
        tokenizer.decoder = t.decoders.ByteLevel()
        # 3: a token of control, such as the end of a text; 4: one that the model's makers added.
        for kind, special in ((3, True), (4, False)):
            own = dict.fromkeys(token for token, each in zip(tokens, kinds, strict=False) if each == kind and token)
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


def _hidden(token: str, number: int, known: Collection[str]) -> str:
    """A name that no text is cut into: brackets and spaces are other characters within tokens of bytes."""
    name = f"{token} [{number}]"
    while name in known:
        name += " "
    return name


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
