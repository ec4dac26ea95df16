"""What is written into the pages when they are built: the table of mixers, the public names, the stored measurements."""

import importlib
import inspect
import re
from pathlib import Path

import jax
import jax.random as jr

import dualform
from dualform.mixers import AbstractMixer, registry

WIDTH = 8
"""The width at which the table of mixers counts."""


def on_page_markdown(markdown: str, page, config, files) -> str:
    """Replace each marker that stands alone on its line (mkdocs calls this for every page)."""
    del page, files
    made = {
        "<!-- mixers -->": mixers_table,
        "<!-- names -->": public_names,
        "<!-- measurements -->": lambda: measurements(Path(config["docs_dir"]) / "benchmarks"),
    }
    for marker, make in made.items():
        if marker in markdown:
            markdown = markdown.replace(marker, make())
    return markdown


def mixers_table() -> str:
    """One row for each registered mixer, from the mixer itself."""
    lines = [
        f"| name | class | state at d = {WIDTH} | numbers kept | its dual form is | attention map | source |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, make in registry().items():
        mixer = make(WIDTH, key=jr.key(0))
        state = jax.tree_util.tree_leaves(jax.eval_shape(mixer.init_state))
        shapes = ", ".join(f"({', '.join(map(str, leaf.shape))})" for leaf in state)
        kind = "linear given its gates" if mixer.linear_given_gates else "a frozen nonlinearity"
        closed = type(mixer).weights is not AbstractMixer.weights
        lines.append(
            f"| `{name}` | `{type(mixer).__name__}` | {shapes} | {sum(leaf.size for leaf in state)} | {kind} | "
            f"{'closed form' if closed else 'from the contributions'} | {source(type(mixer))} |"
        )
    return "\n".join(lines)


def source(mixer: type[AbstractMixer]) -> str:
    """What stands behind **Source:** in a mixer's docstring, up to its oracle."""
    found = re.search(r"\*\*Source:\*\*(.*?)(Oracle:|\n\n|$)", inspect.getdoc(mixer) or "", flags=re.S)
    return " ".join(found.group(1).split()).rstrip(".") if found else ""


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
    """The same report with every heading one level lower."""
    return re.sub(r"^(#{1,5}) ", r"#\1 ", markdown.strip(), flags=re.M)
