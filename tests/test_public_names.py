"""The public names are locked: adding one is a line here, losing one breaks somebody's code."""

import importlib
import inspect
import pkgutil

import pytest

import dualform
from dualform import mixers
from dualform.dual import DualForm

PARTS = {
    "checkpoints",
    "construct",
    "discover",
    "dual",
    "generation",
    "lenses",
    "maps",
    "mixers",
    "models",
    "recurrences",
    "tasks",
}
PARTS |= {"training"}
NAMES = {
    "mixers": {
        *("AbstractMixer", "LinearAttention", "GatedRNN", "DenseGatedRNN", "SideGatedRNN"),
        *("LRU", "LRUOut", "LRUInOut", "LRUInSkip", "LSTM", "GRU", "TanhRNN"),
        *("HGRN", "HGRNComplex", "MinGRU", "MinLSTM", "RGLRU", "GriffinRecurrent"),
        *("GLA", "HGRN2", "RetNet", "DeltaRule", "GSA", "WaveRNN", "PGN", "CausalConvolution", "Constant"),
        *(
            "Aaren",
            "CrossAttention",
            "PositionAwareCrossAttention",
            "SoftmaxAttention",
            "Mamba",
            "Mamba2",
            "RWKV4TimeMixing",
            "RWKV4ChannelMixing",
            "registry",
            "register",
        ),
    },
    "models": {
        *("Stack", "TPGN", "Block", "Bidirectional", "MLP", "GatedMLP", "LayerNorm", "RMSNorm"),
        *("Among", "FromText", "SpeechModel"),
        *("LanguageModel", "Recurrent", "SequenceModel", "Preset", "preset", "published"),
        *("delta_net", "gated_delta_net", "gla", "griffin", "gsa", "hgrn", "hgrn2", "mamba", "mamba2"),
        *(
            "min_rnn",
            "retnet",
            "rwkv4",
            "llama",
            "with_context",
            "with_depth",
            "with_dropout",
            "aaren",
            "aaren_of",
            "with_aaren",
        ),
    },
    "checkpoints": {"Loaded", "get", "known", "load", "load_weights", "read_arrays", "read_rwkv4", "save_weights"},
    "generation": {
        *("MultiState", "MultiStateAttention", "Policy", "Seen", "bounded", "choose_token", "generate", "policies"),
        *("policy", "read_prompt", "register", "Perplexity", "passages_of", "perplexity", "stream", "written"),
        *("KindKept", "Survivors", "by_kind", "survivors", "token_kinds"),
        *("Written", "for_decoding", "generate_batch", "state_for", "text_keys"),
        *("Fingerprint", "fingerprint", "PrefixStore", "Session", "Snapshot", "load_state", "save_state"),
    },
    "training": {
        *(
            "NO_TARGET",
            "Carried",
            "adamw",
            "batched",
            "cross_entropy",
            "decayed",
            "fit",
            "fit_ensemble",
            "fit_together",
            "initial_state",
            "joined",
            "make_chunk",
        ),
        *("levenberg_marquardt", "mean_squared_error", "resume", "run_job"),
        *(
            "select_units",
            "silence_units",
            "sweep",
            "to_tensorboard",
            "trainable",
            "write_atomically",
            "Checkpoints",
            "FitConfig",
            "Fitted",
        ),
        *("FittedEnsemble", "Job", "Polished", "Progress", "Row", "Run", "SecondOrder", "TrainState"),
    },
    "maps": {
        *(
            "CausalMap",
            "Composed",
            "Summed",
            "Called",
            "Identity",
            "Linear",
            "Scale",
            "Centred",
            "Divided",
            "Held",
            "Masked",
            "Turned",
            "Beside",
        ),
        *("Frozen", "LINEAR", "NONLINEAR", "joint", "present"),
        *(
            "Along",
            "AttentionMap",
            "Complex",
            "Convolution",
            "Delta",
            "Dense",
            "Diagonal",
            "Flat",
            "Memory",
            "Outer",
            "Pointwise",
            "Rescaled",
            "Written",
            "attention_of",
            "masked",
        ),
    },
    "recurrences": {
        *("attend", "cell", "convolution", "delta", "dense", "diagonal", "outer", "selective"),
        *("many_to_one", "softmax_scan", "window", "wkv"),
    },
}
REGISTERED = {
    *("linear_attention", "gated_rnn", "dense_gated_rnn", "side_gated_rnn"),
    *("lru", "lru_out", "lru_in_out", "lru_in_skip", "lstm", "lstm_chung", "gru", "gru_chung", "tanh_rnn"),
    *("hgrn", "hgrn_complex", "min_gru", "min_gru_log", "min_lstm", "min_lstm_log", "rg_lru", "griffin_recurrent"),
    *("gla", "hgrn2", "retnet", "delta_rule", "gated_delta_rule", "gsa", "wave_rnn", "pgn", "causal_convolution"),
    *("aaren", "softmax_attention", "multi_query_attention", "local_attention", "mamba", "mamba2"),
    *("rwkv4", "rwkv4_channel", "cross_attention", "position_aware_cross_attention"),
}


def test_public_names():
    """The top level hands on exactly these names, and each of its parts is there on first use."""
    assert set(dualform.__all__) == {"DualForm", "dual_form", "DualformError", "InputError"} | PARTS
    assert dir(dualform) == sorted([*dualform.__all__, "__version__"])  # what completion shows
    for part in PARTS:
        assert getattr(dualform, part) is importlib.import_module(f"dualform.{part}")


@pytest.mark.parametrize("part", NAMES)
def test_names_of_the_parts(part):
    """Each part hands on exactly these names, each once."""
    announced = importlib.import_module(f"dualform.{part}").__all__
    assert set(announced) == NAMES[part] and len(announced) == len(NAMES[part])


@pytest.mark.parametrize("module", [*(f"dualform.{part}" for part in NAMES if part != "training"), "dualform.dual"])
def test_public_names_exist(module):
    """Every name that a folder announces is there and documented."""
    loaded = importlib.import_module(module)
    for name in loaded.__all__:
        assert getattr(loaded, name).__doc__, name


def test_dual_form_fields():
    """A DualForm's fields are what the design names, in order."""
    names = list(DualForm.__dataclass_fields__)
    assert names == ["contributions", "bias", "weights", "residual", "map_residual", "y", "kind", "over"]


def test_unknown_name():
    """A name that does not exist is an AttributeError that says whose."""
    with pytest.raises(AttributeError, match="module 'dualform' has no attribute 'transformers'"):
        dualform.transformers  # noqa: B018 - the access itself must raise


def test_registry_is_a_copy():
    """Changing what `registry()` gave changes no later call."""
    mixers.registry().clear()
    assert set(mixers.registry()) == REGISTERED


def test_no_name_hides_a_module():
    """What a folder hands on has no name of one of its files: `import dualform.recurrences.outer` could mean either."""
    folders = ["dualform", *(each.name for each in pkgutil.walk_packages(dualform.__path__, "dualform.") if each.ispkg)]
    assert {"dualform.checkpoints.files", "dualform.dual.attribution"} < set(folders)
    for name in folders:
        folder = importlib.import_module(name)
        files = {each.name for each in pkgutil.iter_modules(folder.__path__)}
        handed = {each for each, value in vars(folder).items() if not inspect.ismodule(value)}
        assert not files & handed, f"{name} hands on {sorted(files & handed)}"
