"""The pages that `lyceum report` writes, in Chromium: what is true of the shell holds of them."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.report.browser import DESKTOP, PHONE, Browser
from tests.report.recorded import MARKUP, examined, older_chain, record_run, write_json
from trainer.cli import main

OPEN_ALL = "for (const one of document.querySelectorAll('details')) one.open = true"
ATTACK = f"<img src=x onerror='window.taken = 1'></style>{MARKUP}\x00\u202e"
BEFORE = {f"known/{number}": "right" for number in range(4)} | {"unknown/1": "wrong"}
AFTER = {f"known/{number}": "right" for number in range(3)} | {"unknown/1": "abstained"}


def chain(folder: Path) -> list[Path]:
    """A real chain of three stages, examined before and after its last one."""
    run = older_chain(folder) / "preference"
    examined(run, "base", 0.9, 0.6, BEFORE)
    examined(run, "step-00000004", 0.1, 0.5, AFTER)
    return [run]


def side_by_side(folder: Path) -> list[Path]:
    """Runs of long names whose recipes differ, on a layout of several ranks and stages."""
    layout = {"parallel__tensor": 2, "parallel__pipeline": 2, "batch__micro": 1}
    runs = [
        record_run(
            folder / f"a-run-of-quite-a-long-name-{number}" / "run",
            environment={"ranks": 8, "ranks_a_node": 4},
            optimizer__lr=rate,
            **layout,
        )
        for number, rate in enumerate((1e-2, 1e-3, 1e-4))
    ]
    for run in runs:
        examined(run, "step-00000012", 0.5, 0.5, AFTER)
    return runs


def hostile(folder: Path) -> list[Path]:
    """A run of whose texts each tries to run in the page."""
    run = record_run(folder / "<svg onload=window.taken=1>", tokenizer=ATTACK.replace("\x00", ""))
    write_json(run / "environment.json", {"command": ["lyceum", "train", ATTACK], "git": ATTACK})
    sample = {"step": 4, "prompt": ATTACK, "text": f"{ATTACK} half \ud83d"}
    (run / "samples.jsonl").write_text(json.dumps(sample) + "\n")
    source = {"name": ATTACK, "folder": ATTACK, "kind": ATTACK, "examples": {"read": 2, "used": 1}}
    write_json(run / "sources.json", {"sources": [source]})
    (run / "logs").mkdir()
    (run / "logs" / "rank-0.log").write_text(f"2026-01-01 00:00:00,000 WARNING trainer.x: {ATTACK}")
    examined(run, "base", 0.9, 0.5, BEFORE)
    examined(run, "step-00000012", 0.1, 0.5, AFTER)
    return [run]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The page of each kind of run, as the command writes it."""
    found = {}
    for make in (chain, side_by_side, hostile):
        folder = tmp_path_factory.mktemp(make.__name__)
        out = folder / "page.html"
        assert main(["report", *map(str, make(folder)), "--out", str(out)]) == 0
        found[make.__name__] = out.read_text(encoding="utf-8")
    return found


@pytest.mark.parametrize("name", ["chain", "side_by_side", "hostile"])
def test_a_report_can_be_read_and_lets_nothing_run(
    browser: Browser, pages: Mapping[str, str], name: str
) -> None:
    """Would catch what only real sections do: a nameless head, a long key, markup."""
    for width, dark in ((DESKTOP, False), (PHONE, True)):
        browser.open(pages[name], width, dark=dark)
        browser.ask(OPEN_ALL)
        assert browser.overflowing() == []
        assert browser.asked() == [] and browser.console() == []
    assert browser.violations() == []
    assert browser.ask("return window.taken") is None
    assert browser.ask("return document.querySelectorAll('img, [onload], [onerror]').length") == 0
    assert browser.ask("return document.querySelectorAll('script, style').length") == 2


def test_each_section_is_in_the_contents_and_has_something_to_say(
    browser: Browser, pages: Mapping[str, str]
) -> None:
    """Would catch an empty section, or a link of the contents that leads nowhere."""
    browser.open(pages["chain"])
    empty = "[...document.querySelectorAll('main > section')].filter((one) => !one.children[1])"
    assert browser.ask(f"return {empty}.map((one) => one.id)") == []
    targets = "[...document.querySelectorAll('nav a')].map((one) => one.getAttribute('href'))"
    sections = "[...document.querySelectorAll('main > section')].map((one) => '#' + one.id)"
    assert browser.ask(f"return {targets}") == browser.ask(f"return {sections}")
    assert browser.ask("return document.querySelectorAll('.samples').length") > 1
    assert browser.ask("return document.querySelectorAll('.plot').length") > 5
