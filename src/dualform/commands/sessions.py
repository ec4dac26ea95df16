"""`dualform generate` from a saved state, and to one."""

import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualform.errors import FileError, require
from dualform.reading import whole

if TYPE_CHECKING:
    from threading import Event

    from dualform.commands.generate import Generate
    from dualform.generation import Session

PLACES = 1024
"""Tokens that a memory of everything has place for where a state is saved: more text is to follow."""


def opened(command: "Generate", loaded: Any) -> "Session":
    """A session that has read what the command's saved state had read, if it has one, and then its prompt.

    **Raises:** `InputError` where the state is of another model or policy, or has no place for what is to follow; `FileError`
    where it cannot be read.
    """
    from dualform.checkpoints.tokens import encode_within
    from dualform.generation import Session
    from dualform.models.language_model import context_of

    require(
        not command.prompt_at_once,
        "--prompt-at-once reads a text from its beginning, at once; leave it out, or --load-state and --save-state.",
    )
    source, said = command.load_state, command.prompt or ""
    prompt = loaded.encode(said) if source is None else encode_within(loaded.tokens, said)
    if source is not None:
        command = _as_saved(command, source)
    elif command.policy in (None, "full") and command.states is None:
        limit = context_of(loaded.model)
        if limit is not None and limit >= len(prompt) + command.length:
            places = min(max(PLACES, len(prompt) + command.length), limit)
            command = dataclasses.replace(command, policy="full", states=places)
    # A state of a recurrence, or of windows that slide, goes on for ever as it is.
    endless = command.policy is None and context_of(loaded.model) is None
    model = loaded.model if endless else command._bounded(loaded.model, len(prompt))
    session = Session(model) if source is None else Session.load(source, model)
    kept = kept_by(model)
    total, places = len(session) + len(prompt) + command.length, int(kept.get("states", 0))
    require(
        kept.get("policy") != "full" or total <= places,
        f"the memory has place for {places:,} tokens; {len(session):,} were read, and {len(prompt):,} and {command.length:,} "
        "are to follow. Give a shorter prompt or --length, or begin anew with more --states, or with a policy that drops some, "
        "such as tova.",
    )
    session.read(prompt)
    return session


def until(ids: Iterable[int], stopped: "Event") -> Iterator[int]:
    """The tokens up to the one in which the event was set."""
    for token in ids:
        yield token
        if stopped.is_set():
            return


def interrupted(saved: Path | None) -> int:
    """Say what became of a text that was interrupted, and give the exit code."""
    from dualform.commands.exit import say

    if saved is None:
        return say("interrupted; the text so far is all that is kept.", 130)
    return say(f"interrupted; what was read and written so far is in {str(saved)!r}. Go on with --load-state.", 130)


def kept_by(model: Any) -> dict[str, str]:
    """What a bounded model keeps, as notes of its saved states; nothing of another one."""
    for block in model.blocks:
        if hasattr(block.mixer, "policy"):
            mixer = block.mixer
            return {"policy": mixer.policy.name, "states": str(mixer.states), "rerotate": str(mixer.rerotate)}
    return {}


def _as_saved(command: "Generate", source: str | os.PathLike[str]) -> "Generate":
    """The command with the policy that the state was saved with, where it names no other."""
    from dualform.tensor_file import read_tensors

    _, notes = read_tensors(source)
    if "policy" not in notes:
        return command
    states = whole(notes.get("states"))
    if states is None:
        raise FileError(f"{os.fspath(source)!r} does not say how many keys and values it keeps. Copy it again.")
    return dataclasses.replace(
        command,
        policy=command.policy or notes["policy"],
        states=states if command.states is None else command.states,
        rerotate=command.rerotate or notes.get("rerotate") == "True",
    )
