"""The page's script: modules mean the same joined as apart, what is not understood is refused, and each does its work."""

import re
import shutil
import subprocess
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import pytest

from dualform.errors import InputError
from dualform.reports.modules import joined, parsed

WEB = files("dualform.reports") / "web"
UNITS = Path(__file__).parent / "web"


def node() -> str:
    """The program that runs scripts without a browser: this system's, or the one that comes with playwright."""
    found, playwright = shutil.which("node"), find_spec("playwright")
    if found is None and playwright is not None and playwright.origin is not None:
        found = shutil.which("node", path=str(Path(playwright.origin).parent / "driver"))
    if found is None:
        pytest.skip("no node: install it, or playwright, which brings one")
    return found


def write(folder: Path, **modules: str) -> Path:
    for name, text in modules.items():
        (folder / f"{name}.js").write_text(text)
    return folder


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_modules_do_their_work():
    """Every unit test of the modules passes; each module but the first, which draws the page, is loaded by one."""
    done = run([node(), "--test", *map(str, sorted(UNITS.glob("*.test.mjs")))])
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"^# pass (\d+)$", done.stdout, flags=re.M)
    assert passed and int(passed[1]) >= 36, done.stdout


PAGES = ("main.js", "lens.js")
"""The first module of each page."""


def needed(name: str) -> dict[str, str]:
    """A module and all that it imports, by name."""
    text = (WEB / name).read_text("utf-8")
    found = {name: text}
    for other in re.findall(r'from "\./(.*?)"', text):
        found |= needed(other)
    return found


def test_every_module_is_of_a_page():
    """None is there that no page needs."""
    there = {path.name for path in WEB.iterdir() if path.name.endswith(".js")}
    assert set().union(*map(needed, PAGES)) == there


@pytest.mark.parametrize("page", PAGES)
def test_the_script_of_a_page_is_all_of_its_modules(tmp_path, page):
    """Every module that a page needs is in its script once, behind what it imports, and nothing of imports is left."""
    script = joined(WEB, page)
    modules = needed(page)
    places = {name: script.index(text.splitlines()[0]) for name, text in modules.items()}
    assert all(script.count(text.splitlines()[0]) == 1 for text in modules.values())
    for name, text in modules.items():
        for other in re.findall(r'from "\./(.*?)"', text):
            assert places[other] < places[name], (name, other)
    assert script.startswith('"use strict";\n') and not re.search(r"^\s*(import|export)\b", script, flags=re.M)
    (tmp_path / "script.cjs").write_text(script, "utf-8")
    done = run([node(), "--check", str(tmp_path / "script.cjs")])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_a_module_imports_what_it_uses_and_nothing_else(page):
    """In one scope a missing import would go unseen: each name that another module exports is imported where it stands."""
    modules = needed(page)
    parts = {name: parsed(name, text) for name, text in modules.items()}
    exported = set[str]().union(*(part.exports for part in parts.values()))
    for name, part in parts.items():
        code = re.sub(r"//.*|\"[^\"]*\"", "", "\n".join(part.lines))
        code = re.sub(r"`[^`]*`", lambda text: " ".join(re.findall(r"\$\{(.*?)\}", text[0])), code)
        stands = {each for each in exported if re.search(rf"(?<![\w$.]){re.escape(each)}(?![\w$])(?!:)", code)}
        assert stands - set(part.declares) == {each for _, each in part.imports}, name


def test_joined_modules_run_as_modules_do(tmp_path):
    """The same lines in the same order: what is imported first runs first, once, and a name that changes is seen changed."""
    write(
        tmp_path,
        a='import { count, more } from "./b.js";\nimport { said } from "./c.js";\nmore();\nconsole.log(said, count);\n',
        b='import { said } from "./c.js";\nexport let count = 1;\n'
        'export function more() { count += 1; }\nconsole.log("b", said);\n',
        c='export const said = "c";\nconsole.log("c");\n',
    )
    (tmp_path / "package.json").write_text('{ "type": "module" }')
    (tmp_path / "joined.cjs").write_text(joined(tmp_path, "a.js"))
    apart, together = (run([node(), str(tmp_path / name)]) for name in ("a.js", "joined.cjs"))
    assert apart.stdout == together.stdout == "c\nb c\nc 2\n", apart.stderr + together.stderr


@pytest.mark.parametrize(
    "line",
    [
        "import b from './b.js';",
        'import { a as b } from "./b.js";',
        'import * as b from "./b.js";',
        'import "./b.js";',
        'import { a } from "https://example.invalid/b.js";',
        "export default 3;",
        "export { a };",
        'export * from "./b.js";',
        "const { a, b } = c;",
        "let a, b;",
        "var a = 1;",
        "const a = await b;",
        "await b;",
        '  const a = await import("./b.js");',
        "  const here = import.meta.url;",
        'const a = "</script>";',
        "const a = `one",
        "/* one",
    ],
)
def test_what_is_not_understood_is_refused(tmp_path, line):
    """With the module, the line and what a module may say."""
    write(tmp_path, b="export const a = 1;\n", a=f"// a\n{line}\n")
    with pytest.raises(InputError, match=r"a\.js, line 2, is not understood: "):
        joined(tmp_path, "a.js")


def test_modules_that_do_not_fit_together_are_refused(tmp_path):
    """A name that is not exported, one name in two modules, and a circle; the same one imported twice is none."""
    write(
        tmp_path,
        a='import { b } from "./b.js";\nfunction here() {}\n',
        b="const b = 1;\n",
        c='import { here } from "./d.js";\nimport { e } from "./a2.js";\n',
        d="export function here() {}\n",
        a2="export const e = 1;\nfunction here() {}\n",
        e='import { f } from "./f.js";\nexport const e = 1;\n',
        f='import { e } from "./e.js";\nexport const f = 1;\n',
    )
    for first, message in (
        ("a.js", r"a\.js imports b, which b\.js does not export"),
        ("c.js", r"here is a name of d\.js and of a2\.js; rename one"),
        ("e.js", r"in a circle: e\.js imports f\.js imports e\.js"),
    ):
        with pytest.raises(InputError, match=message):
            joined(tmp_path, first)
