"""What the pages for people say of this repository is there: files, verbs, decisions."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from trainer.cli import application

ROOT = Path(__file__).parents[1]
PAGES = [
    path
    for path in (
        ROOT / "README.md",
        ROOT / ".github" / "CONTRIBUTING.md",
        ROOT / "trainer" / "README.md",
        ROOT / "trainer" / "DECISIONS.md",
        ROOT / "kernels" / "README.md",
    )
    if path.exists()
]
# What lies in a user's folders: runs, corpora, sets, placeholders in capitals.
ELSEWHERE = re.compile(
    r"^(runs|corpora|audit|quarantine|checkpoints|logs|tensorboard|raw|[A-Z_]+)(/|$)"
    r"|^(recipe\.yaml|environment\.json|status\.json|metrics\.jsonl|curation\.json)$"
    r"|^(sources\.json|kernels\.json|checkpoint\.json|DATA_CARD\.md|\.venv.*)$|.*[A-Z]{3}"
)
PATH = re.compile(r"`([\w.*-]+(?:/[\w.*-]*)+|[\w-]+\.(?:py|md|yaml|json|toml))`")
VERB = re.compile(r"\blyceum ((?:corpus|checkpoint|bench) [a-z]+|[a-z]+)\b")
WORDS = {"trains", "says", "needs", "is", "that", "to", "run"}


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


def paths_of(page: Path) -> Iterator[str]:
    """The files and folders that a page names, of this repository."""
    for name in PATH.findall(page.read_text(encoding="utf-8")):
        if not ELSEWHERE.match(name):
            yield name


def there(name: str, page: Path) -> bool:
    """Whether such a file or folder is in the repository: from the top, or beside the page.

    A bare name may lie anywhere below the trainer and the kernels.
    """
    bases = (ROOT, page.parent, ROOT / "trainer")
    if any(any(base.glob(name.rstrip("/"))) for base in bases):
        return True
    below = (ROOT / "trainer", ROOT / "kernels")
    return "/" not in name and any(any(base.rglob(name)) for base in below)


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_path_is_there(page: Path) -> None:
    """Catches a page that leads nowhere after a move."""
    assert [name for name in paths_of(page) if not there(name, page)] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_verb_is_there(page: Path) -> None:
    """Catches a command that a reader cannot run any more."""
    command = typer.main.get_command(application)
    for name in VERB.findall(page.read_text(encoding="utf-8")):
        found = command
        for word in name.split():
            commands = getattr(found, "commands", {})
            if word in WORDS and word not in commands:
                break
            assert word in commands, f"lyceum {name}"
            found = commands[word]


def test_cited_decisions_and_invariants_are_written_down() -> None:
    """Catches a comment that cites a number which no page explains."""
    page = (ROOT / "trainer" / "README.md").read_text(encoding="utf-8")
    decisions = set(re.findall(r"^- \*\*(D\d+)\.", page, re.MULTILINE))
    section = page.partition("## What must always hold")[2].partition("\n## ")[0]
    invariants = set(re.findall(r"^(\d)\. \*\*", section, re.MULTILINE))
    assert decisions == {f"D{number}" for number in range(1, 12)}
    assert invariants == set("1234567")
    for package in ("trainer", "kernels", "launch", "tests"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert set(re.findall(r"README\.md, (D\d+)", text)) <= decisions, path
            for cited in re.findall(r"invariants? (\d(?:(?:, | and )\d)*)", text):
                assert set(re.findall(r"\d", cited)) <= invariants, path
