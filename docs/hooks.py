"""What is written into the pages when they are built: the table of mixers, the public names, what was measured and stored."""

import importlib
import inspect
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.random as jr

import dualform
from dualform import commands, tasks
from dualform.checkpoints import gguf_model
from dualform.checkpoints.layouts import LAYOUTS
from dualform.checkpoints.layouts.config import Key
from dualform.checkpoints.layouts.keys import COMMON
from dualform.commands.options import flag
from dualform.errors import InputError
from dualform.experiments.papers import PAPERS
from dualform.experiments.protocol import changed_since
from dualform.experiments.reproduction import Paper
from dualform.mixers import registry
from dualform.mixers.card import card
from dualform.models import published
from dualform.programs import targets
from dualform.programs.automata import HOLDERS, KNOWN, compile_automata, spelled
from dualform.programs.automata.automaton import side_by_side
from dualform.programs.graph import Block, Relu, Times
from dualform.programs.library import library
from dualform.programs.lowering import lowered
from dualform.programs.passes import passed
from dualform.programs.path import as_path
from dualform.reports.figures import svg
from dualform.reports.page import Table
from dualform.reports.paper_figures import figures_of
from dualform.reports.program_figures import graph_figure
from dualform.reports.reproduction_page import made_with, numbers_table, read_record, unknowns_table
from dualform.tasks.carried import CARRIED
from dualform.tasks.task import settings_of

WIDTH = 8
"""The width at which the table of mixers counts."""

PROGRAM_PICTURES = "assets/programs"
"""Where those of programs' graphs are."""

PICTURES = "assets/papers"
"""Where, within the site, the pictures of papers' results are written, each paper's in a folder of its name."""


def on_page_markdown(markdown: str, page, config, files) -> str:
    """Replace each marker that stands alone on its line (mkdocs calls this for every page)."""
    del page
    stored = lambda: Path(config["docs_dir"]) / "reproductions"

    def results(paper: Paper) -> str:
        text, pictures = reproductions(stored(), paper)
        for name, content in pictures.items():
            from mkdocs.structure.files import File  # only there when pages are built

            files.append(File.generated(config, f"{PICTURES}/{paper.name}/{name}", content=content))
        return text

    def programs() -> str:
        text, pictures = library_texts()
        for name, content in pictures.items():
            from mkdocs.structure.files import File

            files.append(File.generated(config, f"{PROGRAM_PICTURES}/{name}", content=content))
        return text

    made = {
        "<!-- library -->": programs,
        "<!-- mixers -->": mixers_table,
        "<!-- held -->": held_table,
        "<!-- models -->": models_table,
        "<!-- architectures -->": architectures_table,
        "<!-- automata -->": automata_table,
        "<!-- tasks -->": tasks_table,
        "<!-- data sets -->": data_sets_table,
        "<!-- names -->": public_names,
        "<!-- config keys -->": config_keys,
        "<!-- options -->": options_table,
        "<!-- measurements -->": lambda: measurements(Path(config["docs_dir"]) / "benchmarks"),
        "<!-- papers -->": lambda: papers_table(stored()),
        **{f"<!-- reproductions of {name} -->": partial(results, paper) for name, paper in PAPERS.items()},
    }
    for marker, make in made.items():
        if marker in markdown:
            markdown = markdown.replace(marker, make())
    return markdown


def mixers_table() -> str:
    """Two tables with one row for each registered mixer: what it is, and where it is from and what it was checked against."""
    cards = [card(name, WIDTH) for name in registry()]
    what = [
        f"| name | class | state at d = {WIDTH} | numbers kept | its dual form is | attention map | operations a step | forms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    whence = ["| name | paper | oracle | largest error, outputs and gradients |", "|---|---|---|---|"]
    for each in cards:
        shapes = ", ".join(f"({', '.join(map(str, shape))})" for shape in each.state)
        kind = each.exact if each.exact.startswith("linear") else f"a {each.exact}"
        found = "closed form" if each.closed_form else "from the contributions"
        what.append(
            f"| `{each.name}` | `{each.kind}` | {shapes} | {each.numbers} | {kind} | {found} | {each.operations} | "
            f"{'; '.join(each.forms)} |"
        )
        error = "" if each.error is None else f"{each.error:.0e}"
        whence.append(f"| `{each.name}` | {each.source} | {each.oracle} | {error} |")
    return "\n".join(what) + "\n\n" + "\n".join(whence)


def as_text(docstring: str) -> str:
    """A docstring whose brackets are no links, but in what is indented as code."""
    lines = docstring.split("\n")
    return "\n".join(line if line.startswith("    ") else line.replace("[", "\\[") for line in lines)


def architectures_table() -> str:
    """What programs can be compiled to."""
    rows = [f"| `{name}` | {each.what} |" for name, each in targets().items()]
    return "\n".join(["| `--to` | network |", "|---|---|", *rows])


def library_texts() -> tuple[str, dict[str, str]]:
    """Every program of the package: what it does, its equations, its options, its size and its graph; pictures by file name."""
    parts, pictures = [], {}
    for name, entry in library().items():
        text = as_text(inspect.getdoc(entry.make) or "").split("\n\n", 1)
        graph = passed(lowered(entry.make().output))[-1][1]
        pictures[f"{name}.svg"] = svg(graph_figure(graph), "white")
        sizes = {
            "layers": len(as_path(graph).layers),
            "states": sum(step.size for step in graph.steps if isinstance(step, Block)),
            "ReLUs": graph.count(Relu),
            "products": graph.count(Times),
            "numbers": graph.numbers(),
        }
        options = ", ".join(f"`{option}={value}`" for option, value in entry.options.items())
        size = ", ".join(f"{count:,} {of if count != 1 else of.removesuffix('s')}" for of, count in sizes.items())
        picture = f"![The graph of {name} after all passes](../{PROGRAM_PICTURES}/{name}.svg)"
        said = [f"### {name}", entry.what, *text[1:], f"Options: {options or 'none'}. Size: {size}.", picture]
        parts.append("\n\n".join(said))
    return "\n\n".join(parts), pictures


def automata_table() -> str:
    """The automata of the package: how large they are, how large as each network, and where they are not held."""
    head = ["automaton", "states", "symbols", *(f"`{to}`" for to in HOLDERS), "letters of a word"]
    rows = []
    for name, make in KNOWN.items():
        automata = side_by_side(make())
        row = [f"`{name}`", "x".join(str(each.states) for each in automata), str(automata[0].symbols)]
        for to in HOLDERS:
            try:
                row.append(f"{compile_automata(automata, to).parameters:,}")
            except InputError:
                row.append("")
        try:
            row.append(str(spelled(automata).length))
        except InputError:
            row.append("")
        rows.append(row)
    listed = [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]]
    return "\n".join(["Numbers in a network, where there is one:", "", *listed])


OURS = "equations"
"""What the name of a peer holds where it was written here, from a paper's equations."""


def held_table() -> str:
    """What each mixer is held to: public implementations, equations that were written out here, or nothing stored."""
    stored = oracles()
    public = {name: sorted({peer for peer in peers if OURS not in peer}) for name, peers in stored.items()}
    ours = [name for name, peers in stored.items() if any(OURS in peer for peer in peers)]
    alone = [name for name in ours if not public[name]]
    both = [name for name in ours if public[name]]
    none = [name for name in registry() if name not in stored]
    listed = lambda names: ", ".join(f"`{name}`" for name in names)
    said = [
        f"{len(stored) - len(alone)} mixers are held to stored outputs and gradients of a **public implementation**.",
        f"{len(alone)} are held to **equations of a paper that were written out here**, in PyTorch: "
        f"{listed(alone)}. It is a check of the code against the equations as they were read, not against others' code.",
    ]
    said += [f"{listed(both)}: both."] if both else []
    said += [f"No oracle is stored of {listed(none)}."] if none else []
    rows = ["| name | public implementation | equations written here |", "|---|---|---|"]
    rows += [f"| `{name}` | {', '.join(public[name])} | {'yes' if name in ours else ''} |" for name in stored]
    return " ".join(said) + "\n\n" + "\n".join(rows)


def oracles() -> dict[str, list[str]]:
    """Of each registered mixer, the peers that its stored oracles are from."""
    measured = json.loads((Path(dualform.__file__).parent / "mixers" / "oracle_errors.json").read_text())["mixers"]
    return {
        name: [oracle["peer"] for oracle in measured[name]["oracles"].values()]
        for name in registry()
        if name in measured
    }


def models_table() -> str:
    """One row for each published model: its parameters as published and as they are counted here, and whose sizes it has."""
    rows = ["| name | published | here | sizes of |", "|---|---:|---:|---|"]
    for name, entry in published().items():
        # Shapes alone: nothing is allocated.
        own = eqx.filter_eval_shape(lambda make=entry.make: make(key=jr.key(0))).parameters()
        rows.append(f"| `{name}` | {entry.published:,} | {own:,} | {entry.source} |")
    return "\n".join(rows)


def tasks_table() -> str:
    """One row for each registered task: what it is, what it can be told, and where it and its data are from."""
    rows = ["| name | what it is | settings | from | data |", "|---|---|---|---|---|"]
    for name, task in tasks.known().items():
        what = " ".join((inspect.getdoc(task) or "").split("\n\n")[0].split())
        told = ", ".join(f"`{setting}` {_plain(value)}" for setting, value in settings_of(task).items())
        data = (
            "drawn"
            if issubclass(task, tasks.DrawnTask)
            else "made by its equations"
            if task.data is None
            else task.data
        )
        licence = f" (licence: {task.licence})" if task.licence else ""
        rows.append(f"| `{name}` | {what} | {told} | {task.source} | {data}{licence} |")
    return "\n".join(rows)


def _plain(value: Any) -> str:
    return {"": "none", (): "none"}.get(value, str(value))


def data_sets_table() -> str:
    """One row for each data set that a package carries."""
    rows = ["| name | what it is | kB | licence | package |", "|---|---|---:|---|---|"]
    for name, entry in CARRIED.items():
        size = sum(member.bytes for member in entry.members) / 1000
        rows.append(f"| `{name}` | {entry.what} | {size:,.0f} | {entry.licence} | {entry.package} {entry.version} |")
    return "\n".join(rows)


def config_keys() -> str:
    """What every form of a config may say: the keys of all, then a heading for each layout and a table for each library."""
    parts = ["Every config may say these, which change no logit:", keys_table(COMMON)]
    for layout in (*LAYOUTS, gguf_model):
        forms = getattr(layout, "FORMS", None) or (gguf_model.FORM,)
        parts.append(f"### {layout.KIND}")
        for form in forms:
            called = "no `model_type`" if form.model_type is None else f"`model_type` {form.model_type}"
            parts.append(f"As {form.library} writes it, {called}:")
            parts.append(keys_table(key for key in form.keys if key not in COMMON and key.name != "model_type"))
    return "\n\n".join(parts)


def keys_table(keys: Iterable[Key]) -> str:
    """One row for each key that is read or fixed, one for each reason why some may be ignored."""
    rows, reasons = ["| key | what it may say | where nothing is said |", "|---|---|---|"], {}
    code = lambda names: ", ".join(f"`{name}`" for name in names)
    for key in keys:
        if key.role == "ignored":
            reasons.setdefault(key.why, []).append(key.name)
            continue
        default = (
            "what the tensors have, or it is asked for"
            if key.default is None and key.role == "read"
            else f"`{json.dumps(key.default)}`"
        )
        rows.append(f"| {code((key.name, *key.also))} | {escaped(key.kind.wanted)} | {default} |")
    rows += [f"| {code(names)} | anything: {why} | |" for why, names in reasons.items()]
    return "\n".join(rows)


def options_table() -> str:
    """One row for each rule on where options of a command are read."""
    rows = ["| command | options | are read only where they are |", "|---|---|---|"]
    for name in commands.__all__:
        for rule in getattr(commands, name).RULES:
            flags = ", ".join(f"`{flag(option)}`" for option in rule.options)
            rows.append(f"| `{name.lower()}` | {flags} | {escaped(rule.what)} |")
    return "\n".join(rows)


def public_names() -> str:
    """A heading for each part of the package, and under it what it hands on, for mkdocstrings to fill."""
    sections = []
    for name in sorted(part for part in dualform.__all__ if inspect.ismodule(getattr(dualform, part))):
        part = importlib.import_module(f"dualform.{name}")
        members = [getattr(part, member) for member in part.__all__ if callable(getattr(part, member))]
        # By where it is defined: `construct.build` is a function, and also the module that the generator would take.
        entries = "\n\n".join(f"::: {member.__module__}.{member.__qualname__}" for member in members)
        sections.append(f"## dualform.{name}\n\n{inspect.getdoc(part)}\n\n{entries}")
    return "\n\n".join(sections)


def measurements(folder: Path) -> str:
    """The reports that the benchmarks have written, one below the other."""
    reports = [demoted(path.read_text()) for path in sorted(folder.glob("*.md"))]
    return "\n\n".join(reports) or "No measurement is stored in this version; run the commands above."


def demoted(markdown: str) -> str:
    """The same report with every heading one level lower, and its links to other reports from the page that it is put on."""
    linked = re.sub(r"\]\((\w+\.md)\)", r"](benchmarks/\1)", markdown)
    return re.sub(r"^(#{1,5}) ", r"#\1 ", linked.strip(), flags=re.M)


def papers_table(folder: Path) -> str:
    """One row for each paper: its page, and how its stored results came out."""
    rows = ["| name | paper | results |", "|---|---|---|"]
    for paper in PAPERS.values():
        records = [read_record(path) for path in stored_results(folder, paper)]
        verdicts = Counter("stale" if changed_since(record) else record["verdict"] for record in records)
        said = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
        what = f"*{escaped(paper.title)}*, {escaped(paper.citation)}"
        rows.append(f"| [`{paper.name}`](papers/{paper.name}.md) | {what} | {said or 'none is stored'} |")
    return "\n".join(rows)


def stored_results(folder: Path, paper: Paper) -> list[Path]:
    """A paper's stored records, in the order of its results."""
    place = {name: i for i, name in enumerate(paper.results)}
    return sorted((folder / paper.name).glob("*.json"), key=lambda path: (place.get(path.stem, len(place)), path.stem))


def reproductions(folder: Path, paper: Paper) -> tuple[str, dict[str, str]]:
    """Every stored result of a paper: the page's text, and its pictures as SVG by their file's name.

    A result that other code than this version's has made is refused: its part says what changed and how to make it anew.
    """
    paths = stored_results(folder, paper)
    texts, pictures = [], {}
    for path in paths:
        record, shown = read_record(path), []
        if changed := changed_since(record):
            texts.append(refusal(path.stem, record, changed))
            continue
        for i, (figure, caption) in enumerate(figures_of(record)):
            name = f"{path.stem}-{i + 1}.svg"
            pictures[name] = svg(figure, "white")  # white, so that it can be read on a dark page
            place = f"../{PICTURES}/{paper.name}/{name}"  # from papers/NAME.md
            shown.append(f"![{escaped(record['title'])}, picture {i + 1}]({place})\n\n*{escaped(caption)}*")
        texts.append(reproduction(path.stem, record, shown))
    return "\n\n".join(texts) or "No result is stored in this version; run the commands above.", pictures


def refusal(name: str, record: Mapping[str, Any], changed: Sequence[str]) -> str:
    """What stands in the place of a result that is older than its code: no number of it."""
    return "\n\n".join(
        [
            f"## {escaped(record['title'])} {{ #{name} }}",
            "**Stale.** The stored result is not shown: this version's code is not the code that made it "
            f"({escaped(', '.join(changed))}). Make it anew with",
            f"<code>{escaped(record['command'])} --store docs/reproductions</code>",
        ]
    )


def reproduction(name: str, record: Mapping[str, Any], pictures: Sequence[str]) -> str:
    """One result: verdict and why, the numbers, the pictures, what the paper leaves open, how it was made."""
    small = "" if record["preset"] == "full" else f", preset {escaped(record['preset'])}"
    parts = [
        f"## {escaped(record['title'])} {{ #{name} }}",
        f"**{escaped(record['verdict'].capitalize())}{small}.** {escaped(record['why'])}".strip(),
        markdown_table(numbers_table(record)),
        *pictures,
    ]
    if record["unknowns"]:
        parts += ["What the paper does not say, and what was taken here:", markdown_table(unknowns_table(record))]
    if record["failed"]:
        parts += ["Runs that failed:", "\n".join(f"- {escaped(reason)}" for reason in record["failed"])]
    return "\n\n".join([*parts, f"<code>{escaped(record['command'])}</code>: {escaped(made_with(record))}"])


def markdown_table(table: Table) -> str:
    """A table of a report as Markdown, its numbers to the right."""
    rule = ("---:" if i in table.numeric else "---" for i in range(len(table.head)))
    rows = ["| " + " | ".join(escaped(cell) for cell in row) + " |" for row in table.rows]
    return "\n".join([f"| {' | '.join(table.head)} |", f"|{'|'.join(rule)}|", *rows])


def escaped(text: str) -> str:
    """Text from a record on one line, with nothing in it that Markdown or HTML would read as its own."""
    return re.sub(r"[&<>\"'\\`*_{}\[\]#!|~^:]", lambda mark: f"&#{ord(mark[0])};", " ".join(text.split()))
