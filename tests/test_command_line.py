"""The `lyceum` command as a person meets it."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from tests.loaded import modules_after
from trainer.cli import application, main
from trainer.cli.arguments import recipe_of
from trainer.cli.grammar import Verb

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


@pytest.mark.parametrize(
    "words",
    [["--help"], ["corpus", "--help"], ["train", "--help"], ["bench", "kernels", "--help"]],
    ids=" ".join,
)
def test_help_loads_the_command_line_alone(words: list[str]) -> None:
    """Catches a help that waits for a recipe, rich or torch: ours are ten files of few imports."""
    modules = modules_after(*words)
    ours = {name for name in modules if name.split(".")[0] in {"trainer", "kernels", "launch"}}
    assert {name for name in ours if not name.startswith("trainer.cli")} == {
        "trainer",
        "trainer.addresses",
        "trainer.collector",
        "trainer.errors",
    }
    assert not modules & {"rich", "yaml", "torch", "numpy"}
    assert len(modules) < 330  # 203 for lyceum, 270 for a verb: pydantic comes with typer's parsing


def test_show_does_not_import_torch() -> None:
    """Catches a heavy import that a fast machine would hide."""
    heavy = {"torch", "numpy", "transformers", "megatron", "deepspeed", "webdataset"}
    assert not modules_after("train", "tiny", "--show") & heavy


def verbs_of(group: TyperGroup) -> dict[str, TyperCommand]:
    """Every verb below a group, by its words."""
    found: dict[str, TyperCommand] = {}
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            found |= {f"{name} {below}": verb for below, verb in verbs_of(command).items()}
        else:
            assert isinstance(command, TyperCommand)
            found[name] = command
    return found


def all_verbs() -> dict[str, TyperCommand]:
    """Every verb of `lyceum`."""
    root = typer.main.get_command(application)
    assert isinstance(root, TyperGroup)
    return verbs_of(root)


def test_every_verb_is_offered() -> None:
    """Catches a verb that a file of verbs defines and no group holds."""
    assert set(all_verbs()) >= {
        *("demo", "recipe", "train", "compare", "evaluate", "generate", "chat"),
        *("import", "export"),
        *("corpus build", "corpus inspect", "corpus verify", "corpus find", "corpus scale"),
        *("corpus trace", "checkpoint ls", "checkpoint verify", "checkpoint prune"),
        *("checkpoint diff", "checkpoint merge"),
        *("bench train", "bench step", "bench memory", "bench curation"),
        *("bench kernels", "bench data", "bench gpu", "bench wheels", "doctor"),
    }


@pytest.mark.parametrize("words", all_verbs())
def test_every_verb_has_help(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a verb without our one-line errors, and an option that says nothing of itself."""
    verb = all_verbs()[words]
    assert isinstance(verb, Verb)
    assert main([*words.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: lyceum {words} [OPTIONS]")
    assert verb.help
    for param in verb.params:
        if isinstance(param, TyperOption):
            assert param.help, param.name
            assert param.opts[0] in shown
    assert "--debug" in shown
    assert "-h, --help" in shown


@pytest.mark.parametrize("verb", ["chat", "export", "import", "launch", "job", "report"])
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
        ["train", "tiny", "--nproc", "3", "recovery.minimum_replicas=0"],
        ["train", "tiny", "--nproc", "3", "recovery.minimum_replicas=1000"],
        ["train", "tiny", "--nproc", "3", "recovery.minimum_replicas=4"],
        ["train", "tiny", "--nproc", "3", "recovery.minimum_replicas=3"],
        ["train", "tiny", "--nproc", "2", "parallel.tensor=4", "--show"],
    ],
    ids=" ".join,
)
def test_wrong_command_is_one_line_and_exit_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a page of usage, a stack trace, or a wrong exit code."""
    refused(capsys, 2, *words)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("train tiny --nprok 2", ["unknown option --nprok", "did you mean --nproc?"]),
        ("train tiny --nprok=2", ["unknown option --nprok", "did you mean --nproc?"]),
        ("evaluate a --suites b", ["did you mean --suite?", "see lyceum evaluate --help"]),
        ("generate a --to 5", ["did you mean --tokens or --top-k or --top-p?"]),
        ("--verzion", ["unknown option --verzion", "did you mean --version?"]),
        ("trian tiny", ["unknown verb 'trian'", "did you mean lyceum train?"]),
        ("checkpoint list a", ["did you mean lyceum checkpoint ls?"]),
        ("verify a", ["lyceum corpus verify or lyceum checkpoint verify?"]),
        ("corpus zzz", ["unknown verb 'zzz'", "build, inspect, verify"]),
        ("bench", ["a verb is missing", "train, step, memory"]),
        ("train tiny --nproc", ["--nproc: its value is missing", "see lyceum train --help"]),
        ("bench memory tiny --json --no-run", ["--json: its value is missing", "--json=VALUE"]),
        ("generate a --prompt -foo", ["--prompt: its value is missing", "--prompt=VALUE"]),
        ("train tiny --show=1", ["'--show' does not take a value"]),
        ("train tiny --nproc 1.0", ["'--nproc': '1.0' is not a whole number from 1"]),
        ("corpus trace a 1 -1", ["'ROW': '-1' is not a whole number from 0"]),
        ("generate a --prompt b --seed 9223372036854775808", ["too large a seed", "below 2^63"]),
        ("generate a --prompt b --temperature x", ["'--temperature': 'x' is not a number"]),
        ("corpus scale --bytes 1e12 x", ["'--bytes': 'x' is not a number of bytes, as 1e12"]),
        ("export a b --dtype fp16", ["'fp16' is not one of 'stored', 'fp32', 'bf16'"]),
        ("bench kernels --tune --check", ["give only one of --compile-only, --tune and --check"]),
        ("generate a", ["give one of --prompt, --prompts and --jsonl"]),
        ("train", ["missing argument 'RECIPE'", "see lyceum train --help"]),
        ("corpus verify a b=c", ["unexpected extra argument(s) (b=c)"]),
        ("train tiny stray", ["'stray': an override is KEY=VALUE"]),
        ("train loss.z=1 tiny", ["'loss.z=1' is a key with its value", "name the recipe before"]),
        ("train ", ["'RECIPE': it is empty", "give a YAML file, or the name of a shipped"]),
        ("compare a ", ["'RUN': it is empty; give a path"]),
        ("checkpoint prune ", ["'RUN': it is empty; give a path"]),
        ("import ./no/such b", ["'DIR': './no/such': there is no such file or folder"]),
        ("import a b --base ./no/such", ["'--base': './no/such': there is no such file or folder"]),
        ("export a ", ["'DIR': it is empty; give a path"]),
        ("recipe ", ["KEY '' is empty; allowed are stage, run"]),
        ("train tiny run=''", ["command line: run: is empty", "name a run directory"]),
        ("train tiny run='\t'", ["command line: run: is empty"]),
    ],
)
def test_a_wrong_word_is_named_with_its_mend(
    words: str, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a refusal that leaves one searching for the wrong word or for the right one."""
    line = refused(capsys, 2, *words.split(" "))
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    "words",
    [
        ["train", "tiny", "mo\x1b[31mdel.x=1"],
        ["train", "a\x1b[31m"],
        ["train", "tiny", "--x\x1b[31m"],
        ["recipe", "a\x1b[31m"],
        ["compare", "a\x1b[31m", "b"],
        ["compare\x1b[31m"],
        ["generate", "a", "--tokens", "\x1b[31m"],
    ],
    ids=repr,
)
def test_what_a_terminal_would_obey_is_shown_escaped(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a word that recolours or rewrites the screen by being refused."""
    assert main(words) in (2, 3)
    line = capsys.readouterr().err
    assert line.rstrip("\n").isprintable()
    assert "\\x1b[31m" in line


def called_with(
    monkeypatch: pytest.MonkeyPatch, module: str, function: str, *words: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that these words call a verb's function with, which itself is left out."""
    calls = []
    stand_in = ModuleType(module)
    setattr(stand_in, function, lambda *given, **named: calls.append((given, named)))
    monkeypatch.setitem(sys.modules, module, stand_in)
    assert main(list(words)) == 0
    assert len(calls) == 1
    return calls[0]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], [1e12, 1e14]),
        (["--bytes", "1e12"], [1e12]),
        (["--bytes", "1e12", "1e14", "5"], [1e12, 1e14, 5.0]),
        (["--bytes=3e9", "--token-bytes", "4"], [3e9]),
    ],
)
def test_an_option_takes_several_values(
    words: list[str], expected: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches `corpus scale --bytes 1e12 1e14` refused, as typer would by itself."""
    given, _ = called_with(
        monkeypatch, "trainer.plan.corpus", "scale_command", "corpus", "scale", *words
    )
    assert given[0] == expected


@pytest.mark.parametrize(
    ("words", "passage"),
    [
        (["-5"], "-5"),
        (["-1e-1"], "-1e-1"),
        (["- a passage"], "- a passage"),
        (["--lr=3 steps"], "--lr=3 steps"),
        (["--exact", "--", "--text"], "--text"),
        (["", "--exact"], ""),
    ],
)
def test_text_that_begins_like_an_option_is_text(
    words: list[str], passage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a number, a sentence or what stands behind "--" taken for an option."""
    given, _ = called_with(
        monkeypatch, "trainer.corpus.inspect.find", "find_command", "corpus", "find", "d", *words
    )
    assert given == (Path("d"), passage, "--exact" in words, 20, None)


def test_an_option_is_known_by_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches abbreviations, which scripts may use, refused; two readings are (see above)."""
    given, _ = called_with(
        monkeypatch,
        "trainer.corpus.inspect.find",
        "find_command",
        "corpus",
        "find",
        "d",
        "t",
        "--lim",
        "3",
    )
    assert given[3] == 3


def test_options_repeat_and_an_empty_file_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a suite lost, and `--json "$UNSET"` writing to the working directory."""
    words = ["evaluate", "--suite", "a", "run", "--suite=b", "--json", ""]
    given, _ = called_with(monkeypatch, "trainer.evaluate.command", "evaluate_command", *words)
    assert given == (Path("run"), ["a", "b"], None)


@pytest.mark.parametrize(
    ("override", "run"),
    [("run=-x", "-x"), ("run=a=b", "a=b"), ("run= a b", "a b"), ("run=--show", "--show")],
)
def test_an_override_holds_any_text(override: str, run: str, tmp_path: Path) -> None:
    """Catches an override cut at its second "=", or split, or taken for an option."""
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    resolved = recipe_of(str(path), [override, 'data.mixture=[{"corpus": "a b"}]'])
    assert (resolved.run, resolved.data.mixture[0].corpus) == (run, "a b")
    with pytest.MonkeyPatch.context() as patch:
        given, _ = called_with(
            patch,
            "trainer.plan.show",
            "show",
            "train",
            "--show",
            str(path),
            override,
            "--nproc",
            "2",
        )
    assert given[0].run == run


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


def test_show_leaves_out_the_ranks_that_the_batch_leaves_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a layout of three replicas for a batch that two of them share."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    words = ["batch.sequences=4", "batch.micro=1", "recovery.minimum_replicas=2"]
    assert main(["train", str(recipe), *words, "--nproc", "3", "--show"]) == 0
    assert "each of 2 replicas takes 2 micro-batches of 1" in capsys.readouterr().out


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
