"""`dualform generate`: text from a language model, in bounded memory."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualform.errors import InputError, require


@dataclass(frozen=True)
class Generate:
    """Write a text that goes on from a prompt, token by token, in a memory that does not grow."""

    prompt: str
    """What it goes on from."""
    model: str = "smollm2"
    """A checkpoint's file or folder, or a name; `dualform models` lists some."""
    length: int = 200
    """How many tokens at most."""
    policy: str | None = None
    """What softmax attention keeps: full, window, window+4, tova, h2o, snapkv, random, ...; all if not given. A recurrent model
    needs none."""
    states: int | None = None
    """How many keys and values each layer keeps; 512 where a policy is given."""
    rerotate: bool = False
    """Count positions anew among the kept states."""
    prompt_at_once: bool = False
    """Read the prompt with full attention and choose the states once, at its end, as is published for TOVA, H2O and SnapKV."""
    temperature: float = 0.8
    """0 for the likeliest token each time."""
    top_k: int | None = None
    """Draw from so many of the likeliest tokens."""
    top_p: float | None = None
    """Draw from the fewest tokens that together have this probability."""
    min_p: float | None = None
    """Draw from tokens that have this share of the likeliest one's probability."""
    seed: int = 0
    """Of the draws."""
    stop: tuple[str, ...] = ()
    """Texts before which it ends; the model's own end of a text always ends it."""
    stream: bool = True
    """Show each piece of text as soon as it is there; without it, all in the end."""
    load_state: Path | None = None
    """Go on from this file, which --save-state wrote; the prompt follows what was read and written there, and may be empty."""
    save_state: Path | None = None
    """Write what is remembered in the end into this file."""

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        import jax

        from dualform.commands.perplexity import language_model
        from dualform.commands.sessions import kept_by, opened
        from dualform.generation import stream, written
        from dualform.models.load import load

        require(
            self.policy is not None or not (self.states or self.rerotate or self.prompt_at_once),
            "--states, --rerotate and --prompt-at-once are of a policy; give --policy, such as tova.",
        )
        require(self.length >= 1, f"--length {self.length}: give at least 1 token.")
        loaded = language_model(load(self.model))
        names = ("temperature", "top_k", "top_p", "min_p")
        sampling: dict[str, Any] = {name: getattr(self, name) for name in names} | {"key": jax.random.key(self.seed)}
        session = None if self.load_state is None and self.save_state is None else opened(self, loaded)
        if session is None:
            prompt = loaded.encode(self.prompt)
            model = self._bounded(loaded.model, len(prompt))
            ids = stream(model, prompt, at_once=self.prompt_at_once, **sampling)
        else:
            ids = session.stream(**sampling)
        pieces = written(loaded.tokens, ids, self.length, self.stop, ends_of(loaded.record))
        for piece in pieces if self.stream else ("".join(pieces),):
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")
        if session is not None and self.save_state is not None:
            session.save(self.save_state, notes=kept_by(session.model))
        return 0

    def _bounded(self, model: Any, prompt: int) -> Any:
        """The model with what it is to keep: all, where nothing is said, in a memory as large as this text needs."""
        from dualform.generation import bounded
        from dualform.mixers import SoftmaxAttention

        windows = [b.mixer.window for b in model.blocks if isinstance(b.mixer, SoftmaxAttention)]
        needed = prompt + self.length
        if self.policy not in (None, "full"):
            return bounded(model, self.policy, self.states or 512, rerotate=self.rerotate)
        if self.policy == "full" or (windows and max(windows) >= needed):
            # Rounded up, so that texts of about one length are one program.
            return bounded(model, "full", self.states or -(-needed // 256) * 256)
        if windows and len(windows) == len(model.blocks):
            raise InputError(
                f"the prompt has {prompt:,} tokens, and {self.length:,} are to follow; this model reads {max(windows):,}. Give "
                "a shorter prompt or --length, or bound its memory: --policy tova --states 512."
            )
        return model


def ends_of(record: dict[str, Any]) -> frozenset[int]:
    """The tokens that end a text, by a checkpoint's config."""
    end = record.get("eos_token_id")
    return frozenset(e for e in (end if isinstance(end, list) else [end]) if isinstance(e, int))
