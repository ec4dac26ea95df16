"""`dualform memory`: what a model remembers of a context that several questions share."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dualform.commands.options import Options, Read, drops
from dualform.errors import require

FILLED = ("variable-tracking", "needle", "summary-needle")
"""Tasks whose facts stand among sentences in any case; those of the others do where --items says how many they are."""


@dataclass(frozen=True)
class Memory(Options):
    """Measure what a language model remembers of a context that several questions share, under each policy.

    The context is read once; then a question, its answer, the next question, and so on, in one state.
    """

    model: str = "smollm2"
    """A checkpoint's file or folder, or a name; `dualform models` lists some."""
    tasks: str = "kv,prefix-suffix,variable-tracking,many-shot,needle,math-find,summary-needle"
    """Tasks with commas between them."""
    policy: str = "full"
    """Policies with commas between them: full, window, window+4, tova, tova-head, tova-newest, h2o, h2o-layer, snapkv, random."""
    states: str | None = None
    """How many keys and values each layer keeps, with commas between the numbers; 256 by default; full keeps all."""
    turns: int = 5
    """Questions on a context."""
    mode: str = "turns"
    """turns: one state goes through all questions; requests: each question is the first one after the context."""
    history: str | None = None
    """By turns: true, the default, the right answers stand in the history, as published; own, those that the model gave."""
    length: int = 1024
    """Tokens of a context, at most."""
    items: int | None = None
    """Facts of a context, the rest being sentences; by default as many as fit, or as are asked for."""
    examples: int = 8
    """Contexts of a task."""
    batch: int = 8
    """How many of them go through the model together; only speed and memory depend on it."""
    seed: int = 0
    """Of the examples."""
    text: Path | None = None
    """A file of text whose sentences fill the contexts; by default Python's own help."""
    write: Path | None = None
    """A file for the report, as Markdown."""
    RULES: ClassVar = (
        Read(("states",), lambda given: drops(given.policy), "of a policy that drops some; full keeps all."),
        Read(("history",), lambda given: given.mode != "requests", "of --mode turns; by requests there is none."),
        Read(
            ("text",),
            lambda given: given.items is not None or any(name in FILLED for name in given.tasks.split(",")),
            f"of tasks with sentences in them: {', '.join(FILLED)}, and the others where --items is given.",
        ),
    )

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        from dualform.checkpoints.loading import load
        from dualform.commands.generate import ends_of
        from dualform.commands.perplexity import language_model, whole_numbers
        from dualform.experiments.memory import HISTORIES, MODES, contender, remember, rows_of, script, template_of
        from dualform.generation import policy
        from dualform.reading import text_of_file
        from dualform.reports.console import Console
        from dualform.reports.memory import as_markdown
        from dualform.tasks.memory import Room, filler, memory_task, sentences_of
        from dualform.tensor_file import check_writable, write_atomically
        from dualform.training.run import versions

        self.check_options()
        history, tasks = self.history or "true", [memory_task(name) for name in dict.fromkeys(self.tasks.split(","))]
        states = whole_numbers("--states", "256" if self.states is None else self.states)
        chosen = {name: policy(name) for name in self.policy.split(",")}
        require(self.mode in MODES, f"--mode {self.mode}: give one of {', '.join(MODES)}.")
        require(history in HISTORIES, f"--history {history}: give one of {', '.join(HISTORIES)}.")
        require(self.batch >= 1, f"--batch {self.batch}: at least 1 example goes through the model.")
        if self.write is not None:
            check_writable(self.write)
        sentences = filler() if self.text is None else sentences_of(text_of_file(self.text))
        loaded = language_model(load(self.model))
        loaded.encode("a")  # a model without a tokenizer is said before anything is measured
        assert loaded.tokens is not None
        tokens = loaded.tokens
        room = Room(self.length, lambda text: len(tokens.encode(text)), sentences, self.items)
        drawn = {task: task.examples(self.examples, room, self.turns, self.seed) for task in tasks}
        about = (
            f"{loaded.name}: {self.examples} contexts of at most {self.length:,} tokens a task, {self.turns} questions each, by "
            f"{self.mode}{f', history {history}' if self.mode == 'turns' else ''}, seed {self.seed}, text: "
            f"{'pydoc_data.topics' if self.text is None else self.text.name}."
        )
        console, rows, template = Console(), [], template_of(tokens)
        console.remembering(about, self.turns)
        chances, command = {task.name: task.chance for task in tasks}, ["dualform", *sys.argv[1:]]
        for task, examples in drawn.items():
            scripts = [script(example, tokens, template) for example in examples]
            # With its own answers in the history, each may be longer than the right one.
            longest = max(len(answer) for each in scripts for answer in each.answers)
            needed = max(each.length for each in scripts) + self.turns * (longest + 16)
            for name, by in chosen.items():
                for count in states if not by.whole else (0,):
                    model, kept = contender(loaded.model, name, count, needed)
                    options = {"mode": self.mode, "history": history, "ends": sorted(ends_of(loaded.record))}
                    found = remember(model, tokens, examples, template=template, batch=self.batch, **options)
                    for row in rows_of(task.name, name, kept, found):
                        rows.append(row)
                        console.remembered(row)
            # After every task, so that what was measured is kept if the next one is stopped.
            if self.write is not None:
                report = as_markdown(rows, command=command, about=about, versions=versions(), chances=chances)
                write_atomically(self.write, report.encode())
        return 0
