"""The README's promises that a machine can check."""

import re
import subprocess
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import dualform
from dualform.mixers import registry

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def quick_start() -> list[str]:
    """The README's shell blocks."""
    return [block.strip() for block in re.findall(r"^```sh\n(.*?)^```$", README, flags=re.M | re.S)]


def test_two_commands_each_one_line():
    """The quick start is two lines; each makes its own environment, and starts nothing that it did not install there."""
    run, test = quick_start()
    for line, folder in ((run, ".venv"), (test, ".venv-test")):
        assert "\n" not in line
        first, *others = line.split(" && ")
        assert first == f"python3 -m venv {folder}"
        assert len(others) == 2 and all(command.startswith(f"{folder}/bin/") for command in others)
    assert run.endswith("/dualform discover") and "/python -m pytest" in test


def test_checks_run_the_readmes_command():
    """`.ci/run` takes the test command from the README, where its pattern finds exactly that line; bash can read it."""
    script = (ROOT / ".ci" / "run").read_text()
    [pattern] = re.findall(r"grep -m1 -E '([^']+)' README\.md", script)
    assert [line for line in README.splitlines() if re.search(pattern, line)] == [quick_start()[1]]
    assert "pytest" not in script.split('venv"}\n', 1)[1]
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)


def test_checks_run_the_thorough_tier():
    """After the README's command `.ci/run` runs its last part again with `-m slow`: exactly the tests that it left out."""
    script = (ROOT / ".ci" / "run").read_text()
    assert 'thorough="${command##* && } -m slow"\n' in script
    assert script.index('-c "$command"') < script.index("models get all") < script.index('-c "$thorough"')
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert "-m 'not slow'" in options["addopts"]
    assert quick_start()[1].split(" && ")[-1].endswith("/python -m pytest -n 2")


def test_installed_extras_exist():
    """Every extra that a command of the docs installs is one of the package's."""
    for text in (ROOT / name for name in ("README.md", "CONTRIBUTING.md", ".ci/run", "docs/benchmarks.md")):
        for extras in re.findall(r"\.\[([\w,]+)\]", text.read_text()):
            assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"]), text


def test_the_number_of_mixers():
    """The README counts those that are registered."""
    assert f"| {len(registry())} mixers, " in README


def test_one_version():
    """The package, its metadata, the citation and the list of changes name one version."""
    assert dualform.__version__ == PROJECT["version"]
    assert f"\nversion: {dualform.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)[0] == dualform.__version__


def test_licence_is_whole():
    """The licence is Apache 2.0, from its title to its appendix, as the metadata says."""
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    assert text.split()[:2] == ["Apache", "License"] and "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text and text.rstrip().endswith("limitations under the License.")


def test_picture_stands_alone():
    """The picture is well-formed, has a title and a description for readers who cannot see it, and loads nothing."""
    source = (ROOT / "docs" / "assets" / "two-faces.svg").read_text()
    tags = [element.tag.rsplit("}")[-1] for element in ElementTree.fromstring(source).iter()]
    assert {"title", "desc"} <= set(tags)
    assert not {"script", "image", "use", "foreignObject"} & set(tags)
    assert source.count("http") == 1  # the SVG namespace
