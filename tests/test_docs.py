"""What the documents point at exists: links and their anchors, our files, the commands they tell a reader to type."""

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
OURS = ("agents", "benchmarks", "collecting", "comparison", "configs", "docs", "encoders", "envs", "evaluation", "foundation", "frames")
OURS += ("clients", "pretraining", "search", "service", "tests", "wrappers")

FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)\)")
INLINE_CODE = re.compile(r"`([^`\n]+)`")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
IN_A_ROOM = rf"(?:{'|'.join(OURS)})/(?:[\w./-]*(?:\.(?:py|md|yaml|toml|css)|/))?"
OUR_FILE = re.compile(rf"{IN_A_ROOM}|\w+\.py|pyproject\.toml|constraints\.txt|Makefile")
PYTHON_COMMAND = re.compile(r"\bpython ([\w./-]+\.py)\b")
MAKE_COMMAND = re.compile(r"^\s*make ([a-z][a-z-]*)\b(?!=)", re.MULTILINE)


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives the headings of a document; repeated headings are numbered."""
    found: Counter[str] = Counter()
    names = set()
    for heading in HEADING.findall(FENCED.sub("", text)):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        names.add(f"{anchor}-{found[anchor]}" if found[anchor] else anchor)
        found[anchor] += 1
    return names


def broken_links(document: Path, text: str) -> Iterator[str]:
    """Yield the relative links of a document that lead to no file, or to no heading of it."""
    for link in LINK.findall(INLINE_CODE.sub("", FENCED.sub("", text))):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = document.parent / place if place else document
        if not target.exists():
            yield f"{document.name}: {link} leads to no file"
        elif anchor and anchor not in anchors(text if target == document else target.read_text(encoding="utf-8")):
            yield f"{document.name}: {link} leads to no heading"


def missing_files(document: Path, text: str, root: Path = ROOT) -> Iterator[str]:
    """Yield the paths in backticks that read like files of this repository and are not there.

    NAME stands for any name; a script without a folder lies in the root or anywhere in a room.
    """
    for code in INLINE_CODE.findall(FENCED.sub("", text)):
        if not OUR_FILE.fullmatch(code) or "NAME" in code or (root / code).exists():
            continue
        if "/" in code or not any(any((root / room).rglob(code)) for room in OURS):
            yield f"{document.name}: `{code}` is no file of this repository"


def unknown_commands(document: Path, text: str, root: Path = ROOT) -> Iterator[str]:
    """Yield the scripts and make targets that a reader is told to run and that do not exist."""
    for script in PYTHON_COMMAND.findall(text):
        if not (root / script).is_file():
            yield f"{document.name}: there is no script {script}"
    targets = set(re.findall(r"^([a-z][a-z-]*):", (root / "Makefile").read_text(), re.MULTILINE))
    code = "\n".join([*FENCED.findall(text), *INLINE_CODE.findall(text)])
    for target in MAKE_COMMAND.findall(code):
        if target not in targets:
            yield f"{document.name}: there is no make {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    assert list(broken_links(document, document.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_a_document_names_is_there(document: Path) -> None:
    assert list(missing_files(document, document.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_that_a_document_shows_can_be_typed(document: Path) -> None:
    assert list(unknown_commands(document, document.read_text(encoding="utf-8"))) == []


def test_the_readme_fits_on_few_screens() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


BAD = """# A `guide`: what it says

[here](#a-guide-what-it-says) [there](other.md#two-1) [web](https://example.org/x) [folder](deeper)
[gone](gone.md) [lost](#nowhere) [astray](other.md#three)

Read `encoders/nothing.py`, `frames/store.py`, `configs/env/NAME.yaml`, `nothing.py` and `rewards.txt`; run `make nothing`.

```
# [not a link](in-code.md)
python nothing.py --store STORE
python train_agent.py debug
make test
```
"""


def test_the_checks_find_what_is_broken_and_nothing_else(tmp_path: Path) -> None:
    document = tmp_path / "guide.md"
    document.write_text(BAD)
    (tmp_path / "other.md").write_text("# One\n## Two\n## Two\n```\n## Three\n```\n")
    (tmp_path / "deeper").mkdir()
    assert anchors(BAD) == {"a-guide-what-it-says"}
    assert [line.split()[1] for line in broken_links(document, BAD)] == ["gone.md", "#nowhere", "other.md#three"]
    assert [line.split()[1] for line in missing_files(document, BAD)] == ["`encoders/nothing.py`", "`nothing.py`"]
    assert [line.split()[-1] for line in unknown_commands(document, BAD)] == ["nothing.py", "nothing"]


def test_pre_commit_runs_what_ci_runs() -> None:
    makefile = (ROOT / "Makefile").read_text().replace("$(BIN)", ".venv/bin")
    ci = {target: re.search(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE) for target in ("lint", "test")}
    steps = [shlex.split(line) for found in ci.values() if found for line in found[1].splitlines()]
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [hook for repository in repositories for hook in repository["hooks"]]
    assert [shlex.split(hook["entry"].removeprefix("env ")) for hook in hooks] == steps
    assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in hooks)
    assert [hook.get("stages", ["pre-commit"]) for hook in hooks] == [["pre-commit"]] * 3 + [["pre-push"]]
