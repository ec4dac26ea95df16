"""The report of a reproduced result: every picture is drawn, everything is said, nothing in it is markup, bad files say so."""

import json
from pathlib import Path

import numpy as np
import pytest

from dualform.errors import FileError, InputError
from dualform.experiments.gated_rnn.paper import GATED_RNN
from dualform.experiments.papers import PAPERS
from dualform.reports.figures import svg
from dualform.reports.paper_figures import DRAWINGS, figures_of
from dualform.reports.reproduction_page import (
    duration,
    numbers_table,
    numeral,
    read_record,
    reproduction_page,
    summary_page,
    write_reproduction_page,
    write_summary,
)
from tests.reports.records import DATA, PICTURES, record
from tests.reports.test_page import HOSTILE
from tests.tiers import tiers


def stored(folder: Path, content: object) -> Path:
    """A folder with a result.json."""
    folder.mkdir(exist_ok=True)
    (folder / "result.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


@pytest.mark.parametrize("name", tiers(DATA, "fig2", "table4"))
def test_every_picture_is_drawn(name: str):
    """Each result gives its pictures from data as they are stored, infinities in words, and each has a caption."""
    data = json.loads(json.dumps(DATA[name]))
    drawn = figures_of(record(name, data))
    assert len(drawn) == PICTURES.get(name, 1)
    for figure, caption in drawn:
        assert svg(figure).startswith("<svg") and caption.endswith(".")


def test_every_result_has_a_picture():
    """There is something to draw of every result of gated-rnn, and nothing is drawn of what is no result."""
    assert set(DRAWINGS["gated-rnn"]) == set(GATED_RNN.results) == set(DATA)
    assert set(DRAWINGS) <= set(PAPERS) and all(set(DRAWINGS[name]) <= set(PAPERS[name].results) for name in DRAWINGS)


def test_a_result_of_another_paper_has_its_own_pictures():
    """What is drawn is the paper's, not that of another paper's result of the same name."""
    assert figures_of(record("fig4")) and figures_of(record("fig4") | {"paper": "other"}) == []


@pytest.mark.parametrize("name", [*DATA, "unheard of"])
def test_missing_data_draw_nothing(name: str):
    """A record without data, as of an experiment all of whose runs failed, has a page without pictures."""
    made = reproduction_page(record(name, {}))
    assert "<svg" not in made and "The paper&#39;s numbers and ours" in made


def test_damaged_data_leave_out_a_picture_and_say_so(caplog: pytest.LogCaptureFixture):
    """A picture whose data are not of the right form is left out, with a line in the log; the others stay."""
    data = DATA["fig2"] | {"teacher": {"w_v": [[1.0]]}}
    assert len(figures_of(record("fig2", data))) == 2
    assert "fig2: a picture is left out" in caplog.text and "w_k" in caplog.text


def test_fig3_says_what_the_data_say():
    """The rates are drawn at the sizes and shares of the data, with the construction's size across."""
    figure, _ = figures_of(record("fig3"))[0]
    rates, losses, gaps = figure.axes
    full, low = rates.containers
    assert list(full[0].get_ydata()) == [0.0, 1.0] and list(low[0].get_ydata()) == [0.5]
    across = {np.asarray(line.get_xdata())[0] for line in rates.lines if line.get_linestyle() == ":"}
    assert across == {14, 5}
    assert losses.get_yscale() == gaps.get_yscale() == "log"
    assert np.asarray(gaps.collections[1].get_offsets())[0, 1] == 1e-5  # a negative gap, clipped


def test_fig4_means_over_seeds():
    """A point is the mean over seeds that ended with a number; a size without one has no point."""
    figure, _ = figures_of(record("fig4"))[0]
    curves = {container.get_label(): list(container[0].get_ydata()) for container in figure.axes[0].containers}
    assert curves == {"gated RNN, 1 layer": pytest.approx([1.5e-3, 1e-5]), "LSTM, 2 layers": [0.1]}


def test_the_same_bytes():
    """A picture of the same data is the same file."""
    first, second = (svg(figures_of(record("fig4"))[0][0], "white") for _ in range(2))
    assert first == second


def test_text_is_escaped():
    """Whatever a record says stays text, wherever it stands."""
    made = reproduction_page(record("fig4", text=HOSTILE)) + summary_page(GATED_RNN, [record(HOSTILE, text=HOSTILE)])
    assert "<script" not in made and "<img" not in made and "onerror=y>" not in made
    assert "&lt;script&gt;" in made


def test_page_says_everything():
    """Verdict, why, counts, numbers beside the paper's, unknowns, failures, command, seeds, time and versions are there."""
    found = record("fig4") | {"why": "because", "verdict": "differs", "failed": ["width=4: no memory"], "seeds": 7}
    found["numbers"] = [{"name": "ratio", "paper": 2.0, "ours": 3.25e-7, "rule": "at most 1", "outcome": "differs"}]
    made = reproduction_page(found)
    assert 'class="verdict differs"' in made and ".differs {" in made
    for text in (
        "because",
        "Of 1 numbers: 1 differs.",
        "Differs: ratio is 3.25e-07; allowed is at most 1.",
        '<td class="number">2</td><td class="number">3.25e-07</td>',
        "width=4: no memory",
        "dualform reproduce text",
        "7 seeds, 90 s",
        "python text",
    ):
        assert text in made, text


@pytest.mark.parametrize("verdict", ["reproduced", "better", "differs", "ours alone"])
def test_each_verdict_has_its_style(verdict: str):
    """The verdict's class is one that the style sheet knows."""
    made, style = reproduction_page(record("none") | {"verdict": verdict}), verdict.replace(" ", "-")
    assert f'class="verdict {style}"' in made and f".{style} {{" in made


def test_a_formula_is_not_the_papers():
    """What a formula of ours gives has a column of its own, where there is one; the paper's stays empty."""
    number = {"name": "rate", "paper": None, "expected": 0.5, "ours": 0.51, "rule": "within 0.1", "outcome": "met"}
    table = numbers_table(record("none") | {"numbers": [number]})
    assert table.head[1:4] == ["paper", "by formula", "ours"] and table.rows[0][1:4] == ["", "0.5", "0.51"]
    assert "by formula" not in numbers_table(record("none")).head


def test_what_is_ours_alone_says_nothing_of_the_others():
    """A summary of it alone says so; beside another result, that one decides."""
    alone = record("scaling") | {"verdict": "ours alone"}
    assert 'class="verdict ours-alone"' in summary_page(GATED_RNN, [alone])
    both = summary_page(GATED_RNN, [alone, record("fig4")])
    assert 'class="verdict reproduced"' in both and "Of 2 results: 1 reproduced, 1 ours alone." in both


def test_numbers_for_people():
    """Whole numbers are counts, the others keep four digits, small ones show their power of ten, nothing is nothing."""
    values = (14, 2.0, 0.09459, 4.97e-8, 1234567.0, "10 and 4", None, float("inf"))
    assert [numeral(v) for v in values] == ["14", "2", "0.09459", "4.97e-08", "1.23e+06", "10 and 4", "", "inf"]
    assert [duration(s) for s in (3.2, 600, 36000)] == ["3 s", "10 min", "10.0 h"]


def test_written_page(tmp_path: Path):
    """A result's folder gets its report, and the folder above it the table of all, with a link to each report."""
    page = write_reproduction_page(stored(tmp_path / "fig4", record("fig4")))
    assert page == tmp_path / "fig4" / "report.html" and "<svg" in page.read_text()
    one, other = record("fig4"), record("table1") | {"verdict": "differs"}
    summary = write_summary(tmp_path, GATED_RNN, [one, other]).read_text()
    assert (tmp_path / "report.html").exists() and 'class="verdict differs"' in summary
    assert "Of 2 results: 1 reproduced, 1 differs." in summary
    for name in ("fig4", "table1"):
        assert f'<a href="{name}/report.html">{name}</a>' in summary


def test_nothing_to_sum_up():
    """A summary of no result says how to make one."""
    with pytest.raises(InputError, match="there is no result to sum up; make one with `dualform reproduce`"):
        summary_page(GATED_RNN, [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"name": "fig', "cannot be read .* Make the result again"),
        ([], "is no result of `dualform reproduce`: paper, name, title"),
        ({"name": "fig4"}, "paper, title, preset, .* missing or damaged"),
        (record("fig4") | {"numbers": [3]}, "`dualform reproduce`: numbers missing or damaged"),
        (record("fig4") | {"unknowns": [["one"]]}, "`dualform reproduce`: unknowns missing or damaged"),
    ],
)
def test_damaged_results(tmp_path: Path, content: object, message: str):
    """A file that is no result is named, with what is wrong with it, and no page is written."""
    folder = stored(tmp_path / "fig4", content)
    with pytest.raises(FileError, match=message):
        write_reproduction_page(folder)
    assert not (folder / "report.html").exists()


def test_no_result(tmp_path: Path):
    """A folder without a result says how to make one."""
    with pytest.raises(FileError, match=r"result.json' is missing: make it with `dualform reproduce`"):
        read_record(tmp_path / "result.json")
