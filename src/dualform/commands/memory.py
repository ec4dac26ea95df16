"""`dualform memory`: what a model remembers of a context that several questions share."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from dualform.commands import flags
from dualform.commands.flags import option
from dualform.commands.options import Options, Read, drops
from dualform.errors import require

TASKS = ("kv", "prefix-suffix", "variable-tracking", "many-shot", "needle", "math-find", "summary-needle")
FILLED = ("variable-tracking", "needle", "summary-needle")
"""Tasks whose facts stand among sentences in any case; those of the others do where --items says how many they are."""


@dataclass(frozen=True)
class Memory(Options):
    """Measure what a language model remembers of a context that several questions share, under each policy.

    The context is read once; then a question, its answer, the next question, and so on, in one state.
    """

    model: Annotated[str, flags.MODEL] = "smollm2"
    tasks: Annotated[tuple[str, ...], option("TASK [TASK ...]", "What is asked.")] = TASKS
    policy: Annotated[tuple[str, ...], flags.policy("Several are compared.", several=True)] = ("full",)
    states: Annotated[tuple[int, ...] | None, flags.states("256", several=True)] = None
    turns: Annotated[int, option("N", "Questions on a context.")] = 5
    mode: Annotated[
        Literal["turns", "requests"],
        option(
            None,
            "turns: one state goes through all questions; requests: each question is the first one after the context.",
        ),
    ] = "turns"
    history: Annotated[
        Literal["true", "own"] | None,
        option(
            None,
            "By turns: true, the right answers stand in the history, as published; own, those that the model gave.",
            "true",
        ),
    ] = None
    length: Annotated[int, flags.length("A text is a context here, and has at most as many.")] = 1024
    items: Annotated[
        int | None,
        option("N", "Facts of a context, the rest being sentences.", "as many as fit, or as are asked for"),
    ] = None
    examples: Annotated[int, option("N", "Contexts of a task.")] = 8
    batch: Annotated[
        int,
        flags.batch("Here contexts; only speed and memory depend on it."),
    ] = 8
    seed: Annotated[int, flags.seed()] = 0
    file: Annotated[Path | None, flags.file("Its sentences fill the contexts; else those of Python's own help do.")] = (
        None
    )
    out: Annotated[Path | None, flags.out("A report, as Markdown.", "nowhere")] = None
    RULES: ClassVar = (
        Read(("states",), lambda given: drops(*given.policy), "of a policy that drops some; full keeps all."),
        Read(("history",), lambda given: given.mode != "requests", "of --mode turns; by requests there is none."),
        Read(
            ("file",),
            lambda given: given.items is not None or any(name in FILLED for name in given.tasks),
            f"of tasks with sentences in them: {', '.join(FILLED)}, and the others where --items is given.",
        ),
    )

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        from dualform.checkpoints.loading import load
        from dualform.commands.generate import ends_of
        from dualform.commands.perplexity import chosen_bounds, language_model
        from dualform.experiments.memory import contender, remember, rows_of, script, template_of
        from dualform.reading import text_of_file
        from dualform.reports.memory import as_markdown
        from dualform.reports.terminal import Terminal
        from dualform.reports.terminal import memory as prints
        from dualform.tasks.memory import Room, filler, memory_task, sentences_of
        from dualform.tensor_file import check_writable, write_atomically
        from dualform.training.run import versions

        self.check_options()
        history, tasks = self.history or "true", [memory_task(name) for name in dict.fromkeys(self.tasks)]
        bounds = chosen_bounds(self.policy, (256,) if self.states is None else self.states)
        require(self.batch >= 1, f"--batch {self.batch}: at least 1 example goes through the model.")
        if self.out is not None:
            check_writable(self.out)
        sentences = filler() if self.file is None else sentences_of(text_of_file(self.file))
        loaded = language_model(load(self.model))
        loaded.encode("a")  # a model without a tokenizer is said before anything is measured
        assert loaded.tokens is not None
        tokens = loaded.tokens
        room = Room(self.length, lambda text: len(tokens.encode(text)), sentences, self.items)
        drawn = {task: task.examples(self.examples, room, self.turns, self.seed) for task in tasks}
        about = (
            f"{loaded.name}: {self.examples} contexts of at most {self.length:,} tokens a task, {self.turns} questions each, by "
            f"{self.mode}{f', history {history}' if self.mode == 'turns' else ''}, seed {self.seed}, text: "
            f"{'pydoc_data.topics' if self.file is None else self.file.name}."
        )
        terminal, rows, template = Terminal(), [], template_of(tokens)
        prints.head(terminal, about, self.turns)
        chances, command = {task.name: task.chance for task in tasks}, ["dualform", *sys.argv[1:]]
        for task, examples in drawn.items():
            scripts = [script(example, tokens, template) for example in examples]
            # With its own answers in the history, each may be longer than the right one.
            longest = max(len(answer) for each in scripts for answer in each.answers)
            needed = max(each.length for each in scripts) + self.turns * (longest + 16)
            for name, count in bounds:
                model, states = contender(loaded.model, name, count or 0, needed)
                options = {"mode": self.mode, "history": history, "ends": sorted(ends_of(loaded.record))}
                answers = remember(model, tokens, examples, template=template, batch=self.batch, **options)
                for row in rows_of(task.name, name, states, answers):
                    rows.append(row)
                    prints.row(terminal, row)
            # After every task, so that what was measured is kept if the next one is stopped.
            if self.out is not None:
                report = as_markdown(rows, command=command, about=about, versions=versions(), chances=chances)
                write_atomically(self.out, report.encode())
        return 0
