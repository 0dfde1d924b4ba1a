"""The tile tables and the rule by which a row is found."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kernels import tiles

CPU = torch.device("cpu")
TABLES = sorted(path.stem for path in tiles.FOLDER.glob("*.json"))


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A table whose rows say by num_warps where they come from."""

    def rows(chip: int) -> list[dict[str, int]]:
        return [{"up_to": width, "num_warps": chip + width} for width in (128, 256)]

    kernels = {"forward": {"sm_100": rows(100), "sm_80": rows(80)}}
    table = {"source": "made up", "kernels": kernels}
    (tmp_path / "planted.json").write_text(json.dumps(table))
    monkeypatch.setattr(tiles, "FOLDER", tmp_path)
    yield
    tiles._tile.cache_clear()
    tiles.table.cache_clear()


def found(width: int, chip: str) -> int:
    with tiles.compiled_for(chip):
        return tiles.tile("planted.forward", width, CPU)["num_warps"]


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize(
    ("width", "row"), [(1, 128), (128, 128), (129, 256), (256, 256), (257, 256), (10**6, 256)]
)
def test_the_first_row_that_is_wide_enough_is_taken(width: int, row: int) -> None:
    """Catches a block narrower than its row, and a width beyond the table failing."""
    assert found(width, "sm_80") == 80 + row


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize(
    ("chip", "own"),
    [("sm_80", 80), ("sm_89", 80), ("sm_90", 80), ("sm_100", 100), ("sm_120", 100), ("sm_75", 80)],
)
def test_a_chip_without_rows_takes_the_newest_older_ones(chip: str, own: int) -> None:
    """Catches chips compared as text (sm_100 before sm_80), and an unknown chip failing."""
    assert found(1, chip) == own + 128


@pytest.mark.usefixtures("planted")
def test_what_is_tried_holds_for_its_kernel_and_inside_alone() -> None:
    """Catches a tuner's candidate that stays, or that another kernel takes."""
    with tiles.trying("planted.forward", {"num_warps": 1}):
        assert found(1, "sm_80") == 1
    with tiles.trying("other.forward", {"num_warps": 1}):
        assert found(1, "sm_80") == 208
    with pytest.raises(RuntimeError), tiles.trying("planted.forward", {"num_warps": 1}):
        raise RuntimeError
    assert found(1, "sm_80") == 208


@pytest.mark.usefixtures("planted")
def test_a_launcher_may_change_what_it_was_given() -> None:
    """Catches a pop() in one launch taking the constant away from the next."""
    tiles.tile("planted.forward", 1, CPU).clear()
    assert tiles.tile("planted.forward", 1, CPU)
    with tiles.trying("planted.forward", {"num_warps": 1}):
        tiles.tile("planted.forward", 1, CPU).clear()
        assert tiles.tile("planted.forward", 1, CPU) == {"num_warps": 1}


@pytest.mark.usefixtures("planted")
def test_an_unknown_kernel_is_an_error() -> None:
    """Catches a misspelt kernel launched with some other one's tiles."""
    with pytest.raises(KeyError):
        tiles.tile("planted.forwards", 1, CPU)


def test_the_chip_is_the_one_compiled_for() -> None:
    """Catches a gate that compiles one chip's tiles for all of them."""
    usual = tiles.chip(CPU)
    with tiles.compiled_for("sm_100"):
        assert tiles.chip(torch.device("meta")) == "sm_100"
        assert tiles.processors(torch.device("meta")) == 148
    assert tiles.chip(CPU) == usual
    assert tiles.processors(CPU) == 2


@pytest.mark.parametrize("family", TABLES)
def test_a_table_says_its_source_and_its_rows_fit(family: str) -> None:
    """Catches rows out of order (the second never taken), and blocks that Triton refuses."""
    table = tiles.table(family)
    assert table.keys() == {"source", "kernels"}
    assert table["source"]
    for kernel, by_chip in table["kernels"].items():
        keys = {tuple(row) for rows in by_chip.values() for row in rows}
        assert len({frozenset(one) for one in keys}) == 1, f"{kernel}: rows of different constants"
        for chip, rows in by_chip.items():
            assert chip in tiles.PROCESSORS, f"{kernel}: {chip} is no chip that is compiled for"
            widths = [row["up_to"] for row in rows]
            assert widths == sorted(set(widths)), f"{kernel} {chip}: rows out of order"
            for row in rows:
                assert all(isinstance(value, int) for value in row.values())
                assert row.get("num_warps", 4) in {1, 2, 4, 8, 16, 32}
                for name, value in row.items():
                    if name.startswith("BLOCK"):
                        assert value & (value - 1) == 0, f"{kernel} {chip}: {name} {value}"
