"""The corpus that the fuzz tests damage: one small whole file of each format that is read.

`python -m tests.fuzz.make_corpus` writes it. Made with numpy 2.4.6, safetensors 0.8.0, h5py 3.16.0, onnx 1.23.2, gguf 0.19.0,
tokenizers 0.23.3 and jax 0.10.2; every number is drawn from seed 0.
"""

import io
import json
import struct
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

CORPUS = Path(__file__).parent / "corpus"
D, HIDDEN, LAYERS = 8, 8, 1
LETTERS = [*"abcdefghi \u0120\u010a", "<|begin|>", "<|end|>", "ab", "\u0120a"]
MERGES = [("a", "b"), ("\u0120", "a")]


def normal(*shape: int) -> np.ndarray:
    """Numbers of a weight."""
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def llama() -> dict[str, np.ndarray]:
    """A Llama of one layer, its head tied."""
    layer = "model.layers.0."
    arrays = {"model.embed_tokens.weight": normal(len(LETTERS), D), "model.norm.weight": normal(D)}
    arrays |= {layer + f"{name}_layernorm.weight": normal(D) for name in ("input", "post_attention")}
    arrays |= {layer + f"self_attn.{name}_proj.weight": normal(D, D) for name in "qkvo"}
    return arrays | {layer + f"mlp.{name}_proj.weight": normal(HIDDEN, D) for name in ("gate", "up", "down")}


CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": len(LETTERS),
    "hidden_size": D,
    "intermediate_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "eos_token_id": 13,
}


def tokenizer(kind: str) -> Any:
    """A small tokenizer: "bytes" by pairs of bytes, "sentencepiece" with a byte for each unknown one."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    if kind == "bytes":
        made = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(LETTERS)}, merges=MERGES))
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        made.add_special_tokens([AddedToken("<|begin|>", special=True), AddedToken("<|end|>", special=True)])
        begin = [("<|begin|>", LETTERS.index("<|begin|>"))]
        made.post_processor = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=begin)
        made.enable_truncation(8)
        made.enable_padding(length=8)
        return made
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "\u2581", "a", "b", "\u2581a", "ab"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    bpe = models.BPE(vocabulary, [("\u2581", "a"), ("a", "b")], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    made = Tokenizer(bpe)
    made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    strip = decoders.Strip(content=" ", left=1, right=0)
    made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), strip])
    ends = [("<s>", 1), ("</s>", 2)]
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return made


def gguf_file(path: Path) -> None:
    """The Llama as llama.cpp's converter would lay it out, one matrix quantised, with its tokenizer."""
    from gguf import GGMLQuantizationType, GGUFWriter, quants

    from dualform.checkpoints.gguf_model import _INNER, _OUTER

    writer, names = GGUFWriter(path, "llama"), {new: old for old, new in (_OUTER | _INNER).items()}
    writer.add_block_count(LAYERS)
    writer.add_context_length(32)
    writer.add_embedding_length(D)
    writer.add_feed_forward_length(32)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(4)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(LETTERS)
    writer.add_token_merges([" ".join(merge) for merge in MERGES])
    writer.add_token_types([3 if token.startswith("<") else 1 for token in LETTERS])
    writer.add_bos_token_id(LETTERS.index("<|begin|>"))
    writer.add_eos_token_id(LETTERS.index("<|end|>"))
    for long, array in llama().items():
        part = long.removesuffix(".weight")
        inner = part.removeprefix("model.layers.0.")
        short = f"{names[part] if part in names else f'blk.0.{names[inner]}'}.weight"
        if inner in ("mlp.gate_proj", "mlp.up_proj"):
            array = normal(32, D)
        if inner == "mlp.down_proj":
            packed = quants.quantize(normal(D, 32), GGMLQuantizationType.Q8_0)
            writer.add_tensor(short, packed, raw_dtype=GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(short, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def rwkv4_file(path: Path) -> None:
    """An RWKV-4 of one layer in rwkv.cpp's format."""
    from dualform.checkpoints.rwkv4_file import _CHANNEL, _NORM, _TIME, MAGIC

    arrays = {"emb.weight": (6, D), "head.weight": (6, D)}
    arrays |= {
        f"{norm}.{name}": (D,) for norm in ("blocks.0.ln0", "blocks.0.ln1", "blocks.0.ln2", "ln_out") for name in _NORM
    }
    for part, names in (("att", _TIME), ("ffn", _CHANNEL)):
        arrays |= {f"blocks.0.{part}.{name}": (D, D) if name.endswith("weight") else (D,) for name in names.values()}
    data = struct.pack("<6i", MAGIC, 101, 6, D, 1, 0)
    for name, shape in arrays.items():
        array = -np.abs(normal(*shape)) - 0.1 if name.endswith("time_decay") else normal(*shape)
        data += struct.pack("<3i", len(shape), len(name), 0) + struct.pack(f"<{len(shape)}i", *shape[::-1])
        data += name.encode() + array.astype("<f4").tobytes()
    path.write_bytes(data)


def archives(folder: Path) -> None:
    """Arrays in .npz archives of every compression, and one in an .npy file."""
    array = io.BytesIO()
    np.lib.format.write_array(array, normal(3, 4))
    (folder / "array.npy").write_bytes(array.getvalue())
    kinds = {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2}
    for name, kind in (kinds | {"lzma": zipfile.ZIP_LZMA}).items():
        with zipfile.ZipFile(folder / f"{name}.npz", "w", kind) as archive:
            for member in ("w.npy", "b.npy"):
                archive.writestr(zipfile.ZipInfo(member, (2020, 1, 1, 0, 0, 0)), array.getvalue(), kind)


def own_file(path: Path) -> None:
    """What the package itself writes: a model with its tokens."""
    import jax

    from dualform import checkpoints, models
    from dualform.checkpoints.tokens import CharacterTokens, notes

    sizes: Any = {"vocabulary": 5, "d": 8, "layers": 1, "heads": 2, "kv_heads": 1, "hidden": 8, "context": 16}
    model = models.llama(key=jax.random.key(0), dtype=np.float32, **sizes)
    checkpoints.save_weights(path, model, notes(CharacterTokens("abcd")) | {"record": '{"steps": 3}'})


def session() -> bytes:
    """A saved session of that model; it is made when it is needed, since it names the structure of the code of its day."""
    from dualform import checkpoints, generation

    with tempfile.TemporaryDirectory() as folder:
        model = generation.bounded(checkpoints.load(CORPUS / "own.safetensors").model, "tova", 4)
        made = generation.Session(model, chunk=4)
        made.read([0, 1, 2, 3, 4])
        made.save(Path(folder) / "state", {"policy": "tova", "states": "4"})
        return (Path(folder) / "state").read_bytes()


def make(folder: Path) -> None:
    """Write every file of the corpus."""
    import h5py
    import onnx
    from safetensors.numpy import save_file
    from scipy.io import wavfile

    folder.mkdir(exist_ok=True)
    archives(folder)
    with h5py.File(folder / "arrays.h5", "w", libver="earliest", track_order=False) as file:
        file.create_dataset("layer/w", data=normal(3, 4), track_times=False)
        file.create_dataset("layer/b", data=normal(16), track_times=False, chunks=(8,), compression="gzip")
        file.attrs["backend"] = np.bytes_("tensorflow")
    tensors = [onnx.numpy_helper.from_array(normal(3, 4), "w"), onnx.helper.make_tensor("b", 1, [2], [1.5, 2.5])]
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "graph", [], [], initializer=tensors)
    onnx_model = onnx.helper.make_model(graph, producer_name="made", ir_version=10)
    (folder / "graph.onnx").write_bytes(onnx_model.SerializeToString(deterministic=True))
    gguf_file(folder / "llama.gguf")
    rwkv4_file(folder / "rwkv4.bin")
    save_file(llama(), folder / "llama.safetensors", {"format": "pt"})
    for kind in ("bytes", "sentencepiece"):
        (folder / f"{kind}.tokenizer.json").write_text(tokenizer(kind).to_str(), encoding="utf-8")
    (folder / "llama.config.json").write_text(json.dumps(CONFIG, indent=1))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [13, 12], "do_sample": True}))
    shards = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(llama(), "model-00001-of-00001.safetensors")}
    (folder / "index.json").write_text(json.dumps(shards))
    wavfile.write(folder / "sound.wav", 16_000, (1000 * normal(40)).astype(np.int16))
    (folder / "characters.json").write_text(json.dumps({character: i + 1 for i, character in enumerate("abc<")}))
    own_file(folder / "own.safetensors")


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else CORPUS)
