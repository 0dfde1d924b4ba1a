"""Which kernels the command takes: our own package, and an implementation that is known."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.dispatch import MODES
from trainer import __version__
from trainer.cli.grammar import refuse_unknown_kernels

ROOT = Path(__file__).parents[1]


def test_transformers_imports_beside_our_kernels() -> None:
    """Catches a version that transformers takes for Hugging Face's kernels package."""
    numbers = tuple(int(part) for part in __version__.split("."))
    assert not (0, 18, 2) <= numbers < (0, 19)
    program = (
        "import kernels, transformers\n"
        "assert hasattr(kernels, 'rms_norm'), kernels\n"
        "from transformers import LlamaForCausalLM"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_foreign_kernels_distribution_is_refused(tmp_path: Path) -> None:
    """Catches a run on Hugging Face's package of the same name."""
    record = tmp_path / "kernels-0.11.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: kernels\nVersion: 0.11.0\n")
    _assert_refused(tmp_path, "kernels 0.11.0")


def test_foreign_kernels_module_in_front_of_ours_is_refused(tmp_path: Path) -> None:
    """Catches a package that hides ours without being installed under its name."""
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").touch()
    _assert_refused(tmp_path, str(tmp_path))


def test_an_unknown_kernel_implementation_is_refused() -> None:
    """Catches a misspelt LYCEUM_KERNELS that is taken for none, or ends in a stack trace."""
    answer = subprocess.run(
        [sys.executable, "-m", "trainer", "train", "tiny", "--show"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "LYCEUM_KERNELS": "cuda"},
    )
    assert answer.returncode == 2
    assert answer.stderr.count("\n") == 1
    assert "LYCEUM_KERNELS: 'cuda' is unknown; use reference, triton" in answer.stderr


@pytest.mark.parametrize("mode", MODES)
def test_every_kernel_implementation_is_known_before_torch(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a mode that kernels.dispatch takes and the command, without torch, refuses."""
    monkeypatch.setenv("LYCEUM_KERNELS", mode)
    refuse_unknown_kernels()


def _assert_refused(front: Path, part: str) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(front)!r})\n"
        "from trainer.cli import main; sys.exit(main(['train', 'tiny', '--show']))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT
    )
    assert answer.returncode == 6
    assert answer.stderr.count("\n") == 1
    assert part in answer.stderr
