"""`dualform perplexity`: how well a model predicts a text with a bounded memory."""

from dataclasses import dataclass
from pathlib import Path

from dualform.errors import FileError, require


@dataclass(frozen=True)
class Perplexity:
    """Measure how well a language model predicts a text, under each policy and each bound on its memory.

    Passages are spread evenly over the text; each is read from its own beginning, token by token.
    """

    text: Path
    """A file of text."""
    model: str = "smollm2"
    """A checkpoint's file or folder, or a name; `dualform models` lists some."""
    policy: str = "full"
    """Policies with commas between them: full, window, window+4, tova, tova-head, tova-newest, h2o, h2o-layer, snapkv, random."""
    states: str = "64,128,256,512"
    """How many keys and values each layer keeps, with commas between the numbers; full keeps all."""
    passages: int = 16
    """How many passages; fewer where the text is short."""
    length: int = 2048
    """Tokens of a passage."""
    rerotate: bool = False
    """Count positions anew among the kept states."""

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        from dualform.generation import bounded, passages_of, perplexity, policy
        from dualform.models import with_context
        from dualform.models.load import load
        from dualform.reports.console import Console

        names, states = self.policy.split(","), whole_numbers("--states", self.states)
        chosen = {name: policy(name) for name in names}
        loaded = language_model(load(self.model))
        passages = passages_of(loaded.encode(read_text(self.text)), self.passages, self.length)
        console = Console()
        console.perplexities(loaded.name, str(self.text), *passages.shape)
        whole = None
        for name, by in chosen.items():
            for count in states if not by.whole else (0,):
                model = bounded(loaded.model, by, count, rerotate=self.rerotate) if count else loaded.model
                found = perplexity(model if count else with_context(model, self.length), passages)
                whole = found if by.whole else whole
                console.perplexity(name, count or None, found, whole)
        return 0


def language_model(loaded):
    """What was loaded, where it is a language model.

    **Raises:** `InputError` where it is another.
    """
    from dualform.models import LanguageModel

    require(
        isinstance(loaded.model, LanguageModel),
        f"{loaded.name} is a {loaded.architecture}, which predicts no next token. Give a language model.",
    )
    return loaded


def read_text(path: Path) -> str:
    """A file of text.

    **Raises:** `FileError` where it is none.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileError(f"{str(path)!r} cannot be read: {error.strerror}. Check the path.") from None
    except UnicodeDecodeError:
        raise FileError(f"{str(path)!r} is no text in UTF-8. Convert it.") from None


def whole_numbers(option: str, said: str) -> tuple[int, ...]:
    """Numbers with commas between them.

    **Raises:** `InputError` unless all are whole and at least 1.
    """
    parts = [part.strip() for part in said.split(",")]
    require(
        all(part.isdecimal() and int(part) >= 1 for part in parts),
        f"{option} {said}: give whole numbers of at least 1 with commas between them, such as 64,128.",
    )
    return tuple(int(part) for part in parts)
