"""One self-contained HTML page from sections of text, tables and pictures: no script, no network, all escaped."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from dualform.reports.figures import svg


@dataclass(frozen=True)
class Table:
    """Column heads, rows of text, and which columns hold numbers."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Sequence[int] = ()


@dataclass(frozen=True)
class Picture:
    """A figure as SVG text, and what it shows."""

    svg: Markup
    caption: str


@dataclass(frozen=True)
class Folded:
    """A line that opens to show code."""

    title: str
    code: str


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it, in this order: paragraphs, a table, pictures, code, and what is folded."""

    title: str
    paragraphs: Sequence[str] = ()
    table: Table | None = None
    figures: Sequence[Picture] = field(default_factory=tuple)
    code: str = ""
    folded: Sequence[Folded] = ()


def picture(figure: Figure, caption: str) -> Picture:
    """A matplotlib figure made part of a page."""
    return Picture(Markup(svg(figure)), caption)  # the figure's own text was escaped by matplotlib


def render(title: str, lead: str, verdict: str, reasons: Sequence[str], sections: Sequence[Section]) -> str:
    """The page's HTML. Text from files and arguments is escaped; a content security policy allows no network."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dualform.reports"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html").render(
        title=title,
        lead=lead,
        verdict=verdict,
        verdict_class=verdict.lower().replace(" ", "-").rstrip("."),
        reasons=reasons,
        sections=sections,
    )
