"""Keys that the configs of several layouts share: those that change no logit, and those of rotary angles."""

from dualform.checkpoints.layouts.config import (
    COUNT,
    FLAG,
    POSITIVE,
    SHARE,
    TOKENS,
    Config,
    Form,
    Key,
    Kind,
    fixed,
    ignored,
    read,
    same,
)

COMMON: tuple[Key, ...] = (
    *ignored("names of the file, its maker and its library", "_name_or_path", "name_or_path", "_commit_hash"),
    *ignored("names of the file, its maker and its library", "transformers_version", "transformers.js_config"),
    *ignored("names of the file, its maker and its library", "unsloth_version", "unsloth_fixed", "tokenizer_class"),
    *ignored("weights have the dtype of their file, or the one that is asked for", "torch_dtype", "dtype"),
    *ignored("weights have the dtype of their file, or the one that is asked for", "use_bfloat16"),
    *ignored("how a program calls the model", "use_cache", "return_dict", "output_attentions", "output_hidden_states"),
    *ignored("how a program calls the model", "return_dict_in_generate", "output_scores", "torchscript"),
    *ignored("how a program calls the model", "attn_implementation", "_attn_implementation", "is_decoder"),
    *ignored("how a program calls the model", "_attn_implementation_autoset", "chunk_size_feed_forward"),
    *ignored("how a program calls the model", "_experts_implementation", "experts_implementation"),
    *ignored("tokens with a meaning of their own", "bos_token_id", "pad_token_id", "sep_token_id"),
    *ignored("tokens with a meaning of their own", "eos_token_id", kind=TOKENS),
    *ignored("tokens with a meaning of their own", "unk_token_id", "decoder_start_token_id", "prefix"),
    *ignored("training and first weights", "initializer_range", "attention_dropout", "hidden_dropout", "resid_pdrop"),
    *ignored("training and first weights", "embd_pdrop", "dropout", "neftune_noise_alpha", "gradient_checkpointing"),
    *ignored("training and first weights", "tf_legacy_loss", "use_l2warp"),
    *ignored("of classifiers and other tasks", "id2label", "label2id", "num_labels", "problem_type", "finetuning_task"),
    *ignored("of classifiers and other tasks", "task_specific_params"),
    *ignored("how text is drawn", "max_length", "max_new_tokens", "min_length", "min_new_tokens", "do_sample"),
    *ignored("how text is drawn", "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty", "temperature"),
    *ignored("how text is drawn", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty"),
    *ignored("how text is drawn", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids"),
    *ignored("how text is drawn", "num_return_sequences", "forced_bos_token_id", "forced_eos_token_id"),
    *ignored("how text is drawn", "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens"),
    *ignored("how text is drawn", "begin_suppress_tokens"),
    fixed("is_encoder_decoder", False),
    fixed("add_cross_attention", False),
    fixed("tie_encoder_decoder", False),
    fixed("pruned_heads", {}, []),
)
"""What every config of transformers may say."""

FUSED = ignored(
    "how fla computes: the same numbers", "attn_mode", "fuse_swiglu", "fuse_cross_entropy", "fuse_linear_cross_entropy"
)
"""What every config of flash-linear-attention may say besides."""


def form(library: str, model_type: str | None, classes: tuple[str, ...], *keys: Key) -> Form:
    """A form whose keys are these and those of every config."""
    known = {name.lower() for name in classes}
    listed = lambda value: isinstance(value, list) and all(str(each).lower() in known for each in value)
    wanted = f"a list of {' or '.join(classes) or 'none'}"
    said = (
        Key("model_type", Kind("a string", lambda value: isinstance(value, str)), model_type, "read", "", "model_type"),
        Key("architectures", Kind(wanted, lambda v: v is None or listed(v)), None, "read", "", "architectures"),
    )
    return Form(library, model_type, classes, (*said, *keys, *COMMON))


def rotary(share: float) -> tuple[Key, ...]:
    """Keys of rotary angles, on their own or in an object, by the older name or the newer; share: of a head's channels."""
    within = lambda *names: tuple(f"{outer}.{name}" for name in names for outer in ("rope_parameters", "rope_scaling"))
    kind, factor = within("rope_type", "type"), within("factor")
    return (
        read("rope_theta", POSITIVE, 10_000.0, also=within("rope_theta")),
        (read if share < 1 else _whole)("partial_rotary_factor", SHARE, share, also=within("partial_rotary_factor")),
        fixed(kind[0], "default", also=kind[1:]),
        fixed(factor[0], 1.0, also=factor[1:]),
    )


def _whole(name: str, kind: Kind, default: float, *, also: tuple[str, ...]) -> Key:
    return fixed(name, default, also=also)


def check_rotary(config: Config) -> None:
    """Raise `FileError` where angles are said in both objects, and differently: one of the two is then dropped whole."""
    one, other = (config.fields.get(name) for name in ("rope_parameters", "rope_scaling"))
    if one and other and not same(one, other):
        raise config.refused("rope_parameters", one, "those of rope_scaling, or no rope_scaling")


def tied(default: bool) -> Key:
    """Whether the head is the embedding."""
    return read("tie_word_embeddings", FLAG, default)


SIZES: tuple[Key, ...] = tuple(read(name, COUNT) for name in ("vocab_size", "hidden_size", "num_hidden_layers"))
"""What the tensors tell, too."""
