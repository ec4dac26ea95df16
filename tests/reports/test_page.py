"""The page: everything escaped, nothing from a network, the same bytes for the same content."""

import numpy as np
import pytest

from dualform.reports import figures
from dualform.reports.page import Section, Table, picture, render
from tests.discover.students import constructed

HOSTILE = "<script>alert('x')</script><img src=https://example.invalid/x onerror=y>"


def page(text: str) -> str:
    section = Section(text, [text], Table([text, text], [[text, text]], numeric=[1]), code=text)
    return render(title=text, lead=text, verdict="Identified", reasons=[text], sections=[section])


def test_text_is_escaped_everywhere():
    """Text from files and arguments never becomes markup, wherever it stands."""
    made = page(HOSTILE)
    assert "<script" not in made and "<img" not in made
    assert made.count("&lt;script&gt;") == 11  # title twice, lead, reason, heading, paragraph, 4 cells, code


def test_no_network():
    """The page forbids every load but inline styles and data images."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert policy in page("x")


@pytest.mark.parametrize("verdict", ["Identified", "Function only", "Not identified"])
def test_each_verdict_has_its_style(verdict):
    """The verdict's class is one that the style sheet knows."""
    made = render(title="t", lead="l", verdict=verdict, reasons=[], sections=[])
    name = verdict.lower().replace(" ", "-")
    assert f'class="verdict {name}"' in made and f".{name} {{" in made


def test_figures_are_svg_without_links():
    """Every picture is inline SVG: no document type, no metadata, no reference out of the page."""
    _, rnn = constructed()
    drawn = {
        "weights": figures.weights(rnn, "as trained"),
        "decays": figures.decays(np.array([0.0, 0.5, 1.0]), np.array([0.1, 1e-9, 0.2]), np.array([0.0, 1.0])),
        "learning": figures.learning({"first order": ([1, 2], [1.0, 0.1])}, [0.1, 1e-9], {"reduced": 1e-20}),
        "coefficients": figures.coefficients(["x1", "x1 x2"], np.ones((2, 2)), np.ones((2, 2))),
        "kernels": figures.kernels(np.ones((3, 4, 4)), 2),
        "maps": figures.maps({"a": np.eye(4), "b": -np.eye(4)}),
    }
    for name, figure in drawn.items():
        svg = str(picture(figure, name).svg)
        assert svg.startswith("<svg") and "<!DOCTYPE" not in svg and "<metadata" not in svg, name
        assert 'href="http' not in svg.replace('xmlns:xlink="http', ""), name
