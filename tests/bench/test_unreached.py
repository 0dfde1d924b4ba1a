"""The list of what CPU tests do not reach stays true of the code and of the tests."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer.bench.gpu.parts import parts_of
from trainer.bench.gpu.unreached import UNREACHED, Unreached, table_of_unreached

ROOT = Path(__file__).parents[2]
OF_A_DEVICE = re.compile(r"\b(GPU|CPU|CUDA)\b")


def symbols(body: list[ast.stmt], above: str = "") -> Iterator[str]:
    """Functions, classes and their methods, and what is assigned at module level."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield above + node.name
            if isinstance(node, ast.ClassDef):
                yield from symbols(node.body, f"{above}{node.name}.")
        elif isinstance(node, ast.Assign):
            yield from (above + name.id for name in node.targets if isinstance(name, ast.Name))


def exists(where: str) -> bool:
    path, _, symbol = where.partition("::")
    file = ROOT / path
    return file.is_file() and symbol in set(symbols(ast.parse(file.read_text()).body))


def skips(path: Path) -> Iterator[tuple[str, str]]:
    """(path::test or path::pytestmark, the reason) of every skip in a file of tests."""
    place = path.relative_to(ROOT)
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        name = getattr(node, "name", "pytestmark")
        for call in (n for n in ast.walk(node) if isinstance(n, ast.Call)):
            if re.search(r"\.(skip|skipif|xfail|importorskip)$", ast.unparse(call.func)):
                yield f"{place}::{name}", ast.unparse(call)


@pytest.mark.parametrize("record", UNREACHED, ids=lambda record: record.what)
def test_what_is_listed_exists(record: Unreached) -> None:
    """Catches a list that outlives the code it speaks of, and a part that is gone."""
    assert exists(record.where), f"{record.where} is gone"
    assert record.part.startswith("none: ") or record.part in {
        part.name for part in parts_of(Path("out"), dry=False)
    }
    assert record.what and record.why


def test_every_skip_that_speaks_of_a_device_is_listed() -> None:
    """Catches a test that quietly stops running on one of the two devices."""
    found = {
        where
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for where, reason in skips(path)
        if OF_A_DEVICE.search(reason)
    }
    assert len(found) >= 3, "the search finds nothing: it is broken"
    assert found - {record.where for record in UNREACHED} == set()


def test_a_missing_symbol_would_be_found() -> None:
    """Negative control: the search knows what is not there."""
    assert exists("trainer/parallel/join.py::_join")
    assert not exists("trainer/parallel/join.py::_part")
    assert not exists("trainer/parallel/nowhere.py::_join")


def test_nothing_is_listed_twice() -> None:
    """Catches two lines for one thing, of which one goes stale."""
    assert len({record.what for record in UNREACHED}) == len(UNREACHED)
    assert len(table_of_unreached(UNREACHED).splitlines()) == len(UNREACHED) + 2
