"""`dualform generate`: text from a language model, in bounded memory."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from dualform.commands import flags
from dualform.commands.flags import option
from dualform.commands.options import OF_A_POLICY, Options, Read, drops
from dualform.errors import InputError, require


@dataclass(frozen=True)
class Generate(Options):
    """Write a text that goes on from a prompt, token by token, in a memory that does not grow."""

    prompt: Annotated[str | None, option("TEXT", "What it goes on from.")] = None
    prompts: Annotated[
        Path | None,
        option("FILE", "Prompts, one in each line of this file, instead of --prompt; all are written at once."),
    ] = None
    model: Annotated[str, flags.MODEL] = "smollm2"
    length: Annotated[int, flags.length("Fewer where it ends by itself; those of the prompt are not counted.")] = 200
    policy: Annotated[str | None, flags.policy("All if none is given; a recurrent model needs none.")] = None
    states: Annotated[int | None, flags.states("512")] = None
    rerotate: Annotated[bool, flags.REROTATE] = False
    prompt_at_once: Annotated[
        bool,
        option(
            None,
            "Read the prompt with full attention and choose the states once, at its end, as is published for TOVA, H2O and "
            "SnapKV.",
        ),
    ] = False
    temperature: Annotated[float, option("NUMBER", "How even the draws are; 0 for the likeliest token each time.")] = (
        0.8
    )
    top_k: Annotated[int | None, option("N", "Draw from so many of the likeliest tokens.")] = None
    top_p: Annotated[
        float | None, option("SHARE", "Draw from the fewest tokens that together have this probability.")
    ] = None
    min_p: Annotated[
        float | None, option("SHARE", "Draw from tokens that have this share of the likeliest one's probability.")
    ] = None
    seed: Annotated[int | None, flags.seed(default="0")] = None
    stop: Annotated[
        tuple[str, ...],
        option("TEXT [TEXT ...]", "Texts before which it ends; the model's own end of a text always ends it."),
    ] = ()
    stream: Annotated[
        bool,
        option(
            None,
            "Show each piece of text as soon as it is there; without it, all in the end. Several texts are shown in the end.",
        ),
    ] = True
    samples: Annotated[int, option("N", "How many texts are drawn for each prompt, each with draws of its own.")] = 1
    logprobs: Annotated[
        bool, option(None, "After the text, show each token with the logarithm of its probability.")
    ] = False
    load_state: Annotated[
        Path | None,
        option(
            "FILE",
            "Go on from this file, which --save-state wrote; the prompt follows what was read and written there, and may be "
            "empty.",
        ),
    ] = None
    save_state: Annotated[Path | None, option("FILE", "Write what is remembered in the end into this file.")] = None
    RULES: ClassVar = (
        Read(("states", "rerotate", "prompt_at_once"), lambda given: given.policy is not None, OF_A_POLICY),
        Read(
            ("rerotate", "prompt_at_once"),
            lambda given: drops(given.policy),
            "of a policy that drops some; full keeps every token in its place.",
        ),
        Read(
            ("seed", "top_k", "top_p", "min_p"),
            lambda given: given.temperature != 0,
            "of draws; at --temperature 0 the likeliest token is taken.",
        ),
    )

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        from dualform.checkpoints.loading import load
        from dualform.commands.perplexity import language_model
        from dualform.commands.sessions import interrupted, kept_by, opened, until
        from dualform.generation import stream, written
        from dualform.generation.room import check_room
        from dualform.interrupts import deferred_interrupt
        from dualform.tensor_file import check_writable
        from dualform.token_ids import checked_text

        self.check_options()
        require(self.length >= 1, f"--length {self.length}: give at least 1 token.")
        require(self.samples >= 1, f"--samples {self.samples}: give at least 1 text.")
        require("" not in self.stop, "--stop has an empty text; leave it out.")
        for text in self.stop:
            checked_text(text)
        prompts, states = self._prompts(), self.load_state is not None or self.save_state is not None
        several = len(prompts) * self.samples > 1 or self.logprobs
        require(
            not (several and (self.prompt_at_once or states)),
            "--prompt-at-once, --load-state and --save-state are for one text; leave out --samples, --prompts and --logprobs.",
        )
        if self.save_state is not None:
            check_writable(self.save_state)
        loaded = language_model(load(self.model))
        session = opened(dataclasses.replace(self, prompt=prompts[0]), loaded) if states else None
        if session is not None:
            ids = session.stream(**self._sampling())
        else:
            encoded, texts = [loaded.encode(prompt) for prompt in prompts], len(prompts) * self.samples
            model = self._bounded(loaded.model, max(len(prompt) for prompt in encoded))
            if not self.prompt_at_once:
                model = _for_decoding(model)
            if several:
                check_room(model, texts)
                self._write_batch(loaded, model, [prompt for prompt in encoded for _ in range(self.samples)])
                return 0
            ids = stream(model, encoded[0], at_once=self.prompt_at_once, **self._sampling())
        with deferred_interrupt() as stopped:
            pieces = written(loaded.tokens, until(ids, stopped), self.length, self.stop, ends_of(loaded.record))
            try:
                for piece in pieces if self.stream else ("".join(pieces),):
                    sys.stdout.write(piece)
                    sys.stdout.flush()
                sys.stdout.write("\n")
            finally:  # also where nobody reads what is written any more
                if session is not None and self.save_state is not None:
                    session.save(self.save_state, notes=kept_by(session.model))
        return interrupted(self.save_state) if stopped.is_set() else 0

    def _sampling(self) -> dict[str, Any]:
        """How tokens are drawn."""
        from dualform.counts import key_of

        return {
            "key": key_of(0 if self.seed is None else self.seed),
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "min_p": self.min_p,
        }

    def _prompts(self) -> list[str]:
        """All prompts."""
        from dualform.reading import text_of_file

        if self.prompt is None and self.prompts is None and self.load_state is not None:
            return [""]
        require(
            (self.prompt is None) != (self.prompts is None),
            "give --prompt TEXT, or --prompts FILE with a prompt in each line.",
        )
        if self.prompts is None:
            return [self.prompt or ""]
        lines = [line for line in text_of_file(self.prompts).split("\n") if line.strip()]
        require(len(lines) >= 1, f"{str(self.prompts)!r} has no line with a prompt.")
        return lines

    def _write_batch(self, loaded: Any, model: Any, prompts: list[Any]) -> None:
        """Every text under its number, then its tokens with their log-probabilities where these are asked for."""
        from dualform.checkpoints.growing_text import tokens_within
        from dualform.generation import generate_batch, written

        ends = ends_of(loaded.record)
        found = generate_batch(model, prompts, self.length, ends=ends, **self._sampling())
        for number, text in enumerate(found, start=1):
            if len(found) > 1:
                sys.stdout.write(f"[{number}] ")
            ids = text.tokens.tolist()
            said, whole = ("".join(written(loaded.tokens, ids, self.length, stop)) for stop in (self.stop, ()))
            sys.stdout.write(said + "\n")
            if self.logprobs:
                kept = len(ids) if said == whole else tokens_within(loaded.tokens, ids, len(said))
                for name, worth in zip(loaded.decode(ids[:kept]), text.logprobs[:kept], strict=True):
                    sys.stdout.write(f"{worth:9.4f}  {name!r}\n")

    def _bounded(self, model: Any, prompt: int) -> Any:
        """The model with what it is to keep: all, where nothing is said, in a memory as large as this text needs."""
        from dualform.generation import bounded
        from dualform.mixers import SoftmaxAttention
        from dualform.models.language_model import context_of

        attends, needed = any(isinstance(b.mixer, SoftmaxAttention) for b in model.blocks), prompt + self.length
        if self.policy not in (None, "full"):
            return bounded(model, self.policy, 512 if self.states is None else self.states, rerotate=self.rerotate)
        limit = context_of(model)
        if self.policy is None and limit is not None and needed > limit:
            raise InputError(
                f"the prompt has {prompt:,} tokens, and {self.length:,} are to follow; this model reads {limit:,}. Give "
                "a shorter prompt or --length, or bound its memory: --policy tova --states 512."
            )
        # Rounded up, so that texts of about one length are one program. A window that slides needs no more states than it has.
        places = -(-needed // 256) * 256 if self.states is None else self.states
        if self.policy == "full" or (attends and (limit is not None or places < _widest(model))):
            return bounded(model, "full", places)
        return model


def _widest(model: Any) -> int:
    """The tokens of the widest window or context."""
    from dualform.mixers import SoftmaxAttention

    return max(b.mixer.bound for b in model.blocks if isinstance(b.mixer, SoftmaxAttention))


def _for_decoding(model: Any) -> Any:
    """The form in which a token is done soonest, where there is one."""
    from dualform.generation import MultiStateAttention, for_decoding

    return for_decoding(model) if any(isinstance(b.mixer, MultiStateAttention) for b in model.blocks) else model


def ends_of(record: dict[str, Any]) -> frozenset[int]:
    """The tokens that end a text, by a checkpoint's generation_config.json or config."""
    end = record.get("eos_token_id")
    said = end if isinstance(end, list) else [end]
    return frozenset(e for e in said if isinstance(e, int) and not isinstance(e, bool) and e >= 0)
