"""The `lyceum` command as a person meets it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from kernels.dispatch import MODES
from trainer import __version__
from trainer.cli import main
from trainer.preflight import refuse_unknown_kernels

ROOT = Path(__file__).parents[1]
RECIPE = """\
run: runs/test
steps: 20
sequence_length: 32
model: {layers: 4, hidden: 64, heads: 4, kv_heads: 2, ffn: 128, vocab: 128}
batch: {sequences: 8}
optimizer: {lr: 1e-2}
"""


def lyceum(*words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "trainer", *words], capture_output=True, text=True, env=env, cwd=ROOT
    )


def refused(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> str:
    """The one line that these words are refused with, and with this exit code."""
    assert main(list(words)) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("lyceum: error: ")
    return shown.err


def test_help_answers_within_a_second() -> None:
    """Catches a heavy import on the way to the help; best of three, for a busy machine."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        answer = lyceum("--help")
        seconds.append(time.perf_counter() - started)
        assert answer.returncode == 0
        assert "train" in answer.stdout
    assert min(seconds) < 1.0


@pytest.mark.parametrize("words", [["--help"], ["train", "tiny", "--show"]])
def test_help_and_show_do_not_import_torch(words: list[str]) -> None:
    """Catches a heavy import that a fast machine would hide."""
    program = (
        "import json, sys\nfrom trainer.cli import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit:\n    pass\n"
        "print('\\n' + json.dumps(sorted(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    modules = set(json.loads(answer.stdout.splitlines()[-1]))
    assert not modules & {"torch", "numpy", "transformers", "megatron", "deepspeed", "webdataset"}


@pytest.mark.parametrize(
    "words",
    [
        *(["demo"], ["corpus"], ["corpus", "build"], ["corpus", "inspect"], ["corpus", "verify"]),
        *(["corpus", "find"], ["corpus", "scale"], ["bench", "data"], ["bench", "curation"]),
        *(["corpus", "trace"], ["train"], ["evaluate"], ["generate"], ["checkpoint"]),
        *(["checkpoint", "ls"], ["checkpoint", "verify"], ["checkpoint", "prune"]),
        *(["checkpoint", "diff"], ["bench"], ["bench", "train"], ["bench", "kernels"]),
    ],
    ids=" ".join,
)
def test_every_verb_has_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a verb that is promised and not there, or a help text that argparse chokes on."""
    with pytest.raises(SystemExit) as caught:
        main([*words, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: lyceum {' '.join(words)} ")


@pytest.mark.parametrize("verb", ["chat", "export", "import", "launch", "job", "doctor", "report"])
def test_verbs_not_built_yet_are_not_offered(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a verb that only fails later."""
    assert verb in refused(capsys, 2, verb)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["train"],
        ["train", "tiny", "--nproc", "0"],
        ["train", "tiny", "--nproc", "two"],
        ["train", "tiny", "--nproc", "2", "stray"],
        ["train", "tiny", "--unknown"],
        ["train", "tiny", "stray"],
        ["corpus"],
        ["corpus", "trace", "runs/a", "0"],
        ["corpus", "verify", "a", "b=c"],
        ["generate", "runs/a"],
        ["generate", "runs/a", "--prompt", "a", "--prompts", "b"],
        ["train", "no-such-recipe.yaml"],
        ["train", "tiny", "model.layer=3"],
        ["train", "tiny", "--nproc", "3"],
        ["train", "tiny", "--nproc", "2", "parallel.tensor=4", "--show"],
    ],
    ids=" ".join,
)
def test_wrong_command_is_one_line_and_exit_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a page of usage, a stack trace, or a wrong exit code."""
    refused(capsys, 2, *words)


def test_debug_shows_the_trace(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an error that cannot be looked into."""
    assert main(["train", "no-such-recipe.yaml", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err
    assert main(["--debug", "train", "no-such-recipe.yaml"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_overrides_may_stand_before_and_behind_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches KEY=VALUE dropped or refused behind an option."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    words = ["train", str(recipe), "steps=7", "--nproc", "4", "parallel.tensor=2", "--show"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "steps: 7\n" in shown
    assert "tensor: 2\n" in shown


def test_show_tells_each_rank_its_coordinate_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a layout shown otherwise than megatron-core makes it."""
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(RECIPE)
    layout = ["parallel.tensor=2", "parallel.pipeline=2", "parallel.virtual=2"]
    assert main(["train", "recipe.yaml", *layout, "--nproc", "8", "--show"]) == 0
    shown = capsys.readouterr().out
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in shown.splitlines()
        if line.startswith("│ ")
    ]
    assert rows[:8] == [
        ["0", "0", "0", "0", "0", "0-0, 2-2"],
        ["1", "1", "0", "0", "0", "0-0, 2-2"],
        ["2", "0", "0", "1", "0", "0-0, 2-2"],
        ["3", "1", "0", "1", "0", "0-0, 2-2"],
        ["4", "0", "0", "0", "1", "1-1, 3-3"],
        ["5", "1", "0", "0", "1", "1-1, 3-3"],
        ["6", "0", "0", "1", "1", "1-1, 3-3"],
        ["7", "1", "0", "1", "1", "1-1, 3-3"],
    ]
    assert rows[-1][0] == "total"
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_reader_that_leaves_is_no_error() -> None:
    """Catches a stack trace under `lyceum ... | head`."""
    command = f"{sys.executable} -m trainer train tiny --show | head -n 1"
    answer = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT)
    assert answer.stderr == ""


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
