"""The wheels for a machine without a network: all that is imported, in folders small enough."""

import importlib.metadata
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from trainer.bench.gpu import wheels
from trainer.bench.gpu.wheels import BUILT, CONSTRAINTS, PACKED, wheels_command
from trainer.errors import DataError, RecipeError

THERE = ("torch", "triton", "transformers")
NOT_ON_PYTHON_312 = ("importlib", "tomli", "exceptiongroup", "colorama", "win")
"""Asked for by markers of other Pythons and systems alone."""


def needs(name: str) -> set[str]:
    """The packages that a package asks for without an extra; none where it is not installed."""
    try:
        asked = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return set()  # of another platform, or an extra
    plain = [line for line in asked if "extra ==" not in line and "sys_platform ==" not in line]
    names = {re.split(r"[\s;<>=!~\[(]", line)[0].lower().replace("_", "-") for line in plain}
    return {one for one in names if not one.startswith(NOT_ON_PYTHON_312)}


def all_needs(names: Sequence[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += needs(name)
    return found


def fake_pip(sizes: dict[str, int]) -> tuple[list[list[str]], object]:
    """Pip that writes a wheel of `sizes` bytes a package; what it was called with."""
    calls: list[list[str]] = []

    def run(words: Sequence[str]) -> None:
        calls.append(list(words))
        folder = Path(words[words.index("--dest" if words[0] == "download" else "--wheel-dir") + 1])
        for name in set(words) & {*PACKED, *BUILT}:
            file = folder / f"{name}-1.0-py3-none-any.whl"
            file.write_bytes(b"0" * sizes.get(name, 100))

    return calls, run


def test_what_packed_packages_need_is_packed_or_there() -> None:
    """Catches a wheel that is forgotten, which only a machine without a network would notice."""
    there = all_needs(THERE)
    packed = {*PACKED, *BUILT}
    missing = {name: gone for name in packed if (gone := needs(name) - packed - there)}
    assert missing == {}


def test_every_version_is_pinned() -> None:
    """Catches a package that is packed in whatever version is newest that day."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    assert {*PACKED, *BUILT} <= pinned


def test_folders_hold_no_more_than_their_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a folder that a machine refuses, and a wheel that is in none."""
    monkeypatch.setattr(wheels, "MOST_BYTES", 1000)
    calls, run = fake_pip({"matplotlib": 900, "pillow": 600, "deepspeed": 400})
    folders = wheels_command(tmp_path / "out", run)  # type: ignore[arg-type]
    sizes = [sum(file.stat().st_size for file in one.iterdir()) for one in folders]
    assert max(sizes) <= 1000
    assert sum(sizes) == 100 * (len(PACKED) - 2) + 900 + 600 + 400
    assert sorted((tmp_path / "out").iterdir()) == sorted(folders), "nothing else is left there"
    download, build = calls
    assert download[download.index("--python-version") :][:2] == ["--python-version", "3.12"]
    for words in (download, build):
        assert "--no-deps" in words and str(CONSTRAINTS) in words and "torch" not in words
    assert "pip install --no-index --no-deps wheels-*/*.whl" in capsys.readouterr().out


def test_what_cannot_be_packed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a wheel too large that is left out silently, and two sets of wheels in one folder."""
    monkeypatch.setattr(wheels, "MOST_BYTES", 2**20)
    _, run = fake_pip({"pillow": 2**21})
    with pytest.raises(DataError, match=r"^pillow-.*\.whl: 2 MiB fit into no folder of 1; bring"):
        wheels_command(tmp_path / "a", run)  # type: ignore[arg-type]
    (tmp_path / "b" / "wheels-1").mkdir(parents=True)
    with pytest.raises(RecipeError, match="has folders of wheels already"):
        wheels_command(tmp_path / "b", run)  # type: ignore[arg-type]


def test_a_wheel_of_this_machine_alone_is_refused(tmp_path: Path) -> None:
    """Catches DeepSpeed with compiled parts, which another Python cannot load."""
    _, fake = fake_pip({})

    def run(words: Sequence[str]) -> None:
        fake(words)  # type: ignore[operator]
        if words[0] == "wheel":
            (made,) = Path(words[words.index("--wheel-dir") + 1]).glob("deepspeed-*")
            made.rename(made.with_name("deepspeed-1.0-cp311-cp311-linux_x86_64.whl"))

    with pytest.raises(DataError, match="is made for this machine alone"):
        wheels_command(tmp_path, run)
