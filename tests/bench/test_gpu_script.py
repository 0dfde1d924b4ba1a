"""`lyceum bench gpu`: what is wanted first runs first, and whole; no part harms another."""

import gzip
import json
import re
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from trainer.bench.gpu import command, curve, parts
from trainer.bench.gpu import run as gpu_run
from trainer.bench.gpu.machine import Machine, describe_machine
from trainer.bench.gpu.parts import SIZES, Part, parts_of, why_not
from trainer.bench.gpu.report import DRY
from trainer.bench.gpu.result import EarlierCall, PartResult, PartState, earlier_call, reason_of
from trainer.bench.gpu.run import CALL_SECONDS, REPORT_SECONDS, cost, run_parts
from trainer.bench.gpu.tables import any_table, section_of
from trainer.cli import main
from trainer.errors import RecipeError

HOPPER = Machine(
    "NVIDIA H200",
    (9, 0),
    140.0,
    {"command": "test", "date": "2026-11-28"},
    {"git": {"revision": "abc"}},
)
NONE = Machine(None, None, None)
FIRST = ["ceilings", "kernels", "curve", "train-1.2b"]


def _part(name: str, program: str, seconds: float = 60, **fields: Any) -> Part:
    return Part(name, [sys.executable, "-c", program], seconds, [f"{name}.json"], name, **fields)


def _gpu(*words: str | Path) -> int:
    return main(["bench", "gpu", *map(str, words)])


RATES = {"bytes_per_second": 3e12, "flops_per_second": 7e14, "device": "a GPU", "source": "test"}
LEFT: dict[str, dict[str, Any]] = {
    "ceilings": RATES,
    "kernels": {"implementation": "Triton", "cases": []},
    "curve": {"devices": ["a", "b"], "losses": [[], []], "largest_difference": 0.0, "tolerance": 1},
    "doctor": {"device": "a GPU", "backend": "nccl", "checks": []},
    "bench": {"results": []},
}
"""What parts leave, as far as the report knows it by shape."""


class Watched:
    """A machine whose clock stands still but for its parts, which take the seconds they are given.

    A part takes what `seconds` says, or its own share; `states`: those that do not end well.
    """

    def __init__(
        self, seconds: dict[str, float] | None = None, states: dict[str, PartState] | None = None
    ) -> None:
        self.now = 1000.0
        self.allowed: dict[str, float] = {}
        self._seconds, self._states = seconds or {}, states or {}

    def clock(self) -> float:
        return self.now

    def run(self, part: Part, out: Path, allowed: float, dry: bool) -> PartResult:
        wanted = self._seconds.get(part.name, part.seconds)
        self.allowed[part.name] = allowed
        self.now += min(wanted, allowed) + REPORT_SECONDS
        (out / f"{part.name}.json").write_text(json.dumps(LEFT.get(part.name, {})))
        state = "out of time" if wanted > allowed else self._states.get(part.name, "done")
        return PartResult(part.name, "", state, "", 0, min(wanted, allowed), allowed)

    def go(
        self, parts: Sequence[Part], out: Path, minutes: float, **words: Any
    ) -> dict[str, PartState]:
        seconds = minutes * 60 - CALL_SECONDS
        results = run_parts(
            parts, out, HOPPER, False, seconds, clock=self.clock, run=self.run, **words
        )
        return {one.part: one.state for one in results}


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """The whole command on such a machine."""
    machine = Watched()

    def run(*words: Any) -> list[PartResult]:
        return run_parts(*words, clock=machine.clock, run=machine.run)

    monkeypatch.setattr(command, "run_parts", run)
    monkeypatch.setattr(command, "describe_machine", lambda command: HOPPER)
    return machine


def _report(out: Path) -> str:
    return (out / "REPORT.md").read_text(encoding="utf-8")


def test_a_part_that_fails_or_hangs_costs_no_other(tmp_path: Path) -> None:
    """Catches ten minutes of a GPU lost to one bad kernel, and a reason that nobody can read."""
    write = (
        f"open({str(tmp_path / 'good.json')!r}, 'w').write('{{\"speed\": 1.5, \"none\": null}}')"
    )
    hang = (
        "import subprocess, sys; print('begun', flush=True); "
        "subprocess.run([sys.executable, '-c', 'import signal; signal.pause()'])"
    )
    chosen = [
        _part("hanging", hang, seconds=3),
        _part("bad", "raise SystemExit('out of luck')"),
        _part("absent", "import no_such_wheel.inside"),
        _part("good", write),
    ]
    results = run_parts(chosen, tmp_path, HOPPER, dry=False, seconds=600)
    assert [one.state for one in results] == ["out of time", "failed", "failed", "done"]
    assert [one.exit_code for one in results] == [None, 1, 1, 0]
    assert [one.reason for one in results] == [
        "ran out of its 6 s; its last line: begun",
        "exit 1: out of luck",
        "needs no_such_wheel, which is not installed",
        "",
    ]
    assert [one.leaves for one in results] == [[], [], [], ["good.json"]]
    report = _report(tmp_path)
    assert "not measured: exit 1: out of luck" in report
    assert "| speed | 1.5 |" in report and "| none | not measured |" in report
    everything = json.loads((tmp_path / "all.json").read_text())
    assert everything["parts"]["good"] == {"speed": 1.5, "none": None}
    assert everything["parts"]["bad"] is None
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert everything["summary"] == summary and len(summary["outcomes"]) == 4


def test_what_a_part_left_before_it_failed_is_shown(tmp_path: Path) -> None:
    """Catches half of a part's figures thrown away, or shown as if all were well."""
    file = str(tmp_path / "half.json")
    program = f"open({file!r}, 'w').write('{{\"a\": 2}}'); raise SystemExit(3)"
    old = tmp_path / "late.json"
    old.write_text('{"a": 9}')
    run_parts([_part("half", program), _part("late", "exit(4)")], tmp_path, HOPPER, False, 600)
    report = _report(tmp_path)
    assert "What it left before that:\n\n| figure | value |\n|---|---|\n| a | 2 |" in report
    assert "| a | 9 |" not in report, "an earlier call's figure is not this one's"


def test_the_first_five_minutes_hold_what_is_wanted_first(tmp_path: Path) -> None:
    """Catches five minutes spent on what could have waited, or a first part that is cut short."""
    known = parts_of(tmp_path, dry=False)
    assert [part.name for part in known][: len(FIRST)] == FIRST
    watched = Watched()
    states = watched.go(known, tmp_path, minutes=5)
    assert [name for name in watched.allowed][: len(FIRST)] == FIRST
    assert {name: states[name] for name in FIRST} == dict.fromkeys(FIRST, "done")
    assert "left out" in states.values()
    assert watched.now <= 1000 + 5 * 60 - CALL_SECONDS
    # The last of them compares with torch.compile, and with nothing that five minutes don't hold.
    peers = next(part for part in known if part.name == "train-1.2b").command
    assert peers[peers.index("--peers") + 1] == "bare,bare-compiled"


def test_all_parts_fit_into_two_calls(tmp_path: Path) -> None:
    """Catches parts that neither of two calls, of five and of eight minutes, ever runs."""
    known = parts_of(tmp_path, dry=False)
    names = [part.name for part in known]
    assert len(set(names)) == len(names)
    assert {f"train-{size}" for size in SIZES} <= set(names)
    assert cost(known[: len(FIRST)]) <= 5 * 60 - CALL_SECONDS
    assert cost(known[len(FIRST) :]) <= 8 * 60 - CALL_SECONDS


def test_a_part_is_run_whole_or_left_out(tmp_path: Path) -> None:
    """Catches a part that is begun though its time cannot be there."""
    chosen = [_part("first", "pass", 40), _part("long", "pass", 60), _part("short", "pass", 10)]
    watched = Watched()
    left = (CALL_SECONDS + 40 + 60 + 10 + 3 * REPORT_SECONDS) / 60
    assert list(watched.go(chosen, tmp_path, left).values()) == ["done", "done", "done"]
    # A second less: the last waits, though nothing else is cut for it.
    watched = Watched()
    states = watched.go(chosen, tmp_path, left - 1 / 60)
    assert states == {"first": "done", "long": "done", "short": "left out"}
    assert watched.allowed["first"] == pytest.approx(40 + 10 - 1 + REPORT_SECONDS)
    # Nothing fits, but the last does: it is run in the time that is there.
    watched = Watched()
    states = watched.go(chosen, tmp_path, (CALL_SECONDS + 20) / 60)
    assert states == {"first": "left out", "long": "left out", "short": "done"}


def test_time_that_is_left_is_used_but_never_a_later_parts(tmp_path: Path) -> None:
    """Catches a part that is ended in the middle of spare minutes, and one that takes them all."""
    chosen = [_part("quick", "pass", 40), _part("slow", "pass", 40), _part("last", "pass", 20)]
    minutes = (CALL_SECONDS + cost(chosen)) / 60
    watched = Watched({"quick": 10, "slow": 65})
    assert set(watched.go(chosen, tmp_path, minutes).values()) == {"done"}
    assert watched.allowed == pytest.approx({"quick": 40, "slow": 70, "last": 25})
    # What one takes too long is ended, and said; the others have their time.
    watched = Watched({"quick": 1000})
    states = watched.go(chosen, tmp_path, minutes)
    assert states == {"quick": "out of time", "slow": "done", "last": "done"}
    # However much is left, one that hangs has no more than twice its own.
    watched = Watched({"quick": 1000})
    watched.go(chosen, tmp_path, minutes=60)
    assert watched.allowed["quick"] == 80


def test_a_part_that_cannot_run_leaves_its_time(tmp_path: Path) -> None:
    """Catches minutes that are kept for a part whose wheel is missing."""
    chosen = [_part("absent", "pass", 90, needs=("no_such_wheel",)), _part("good", "pass", 90)]
    states = Watched().go(chosen, tmp_path, (CALL_SECONDS + 91) / 60)
    assert states == {"absent": "not run", "good": "done"}


def test_a_second_call_runs_what_the_first_left(
    tmp_path: Path, watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches minutes spent twice on a part, and a report that forgets the first call's figures."""
    one, two = tmp_path / "one", tmp_path / "two"
    assert _gpu(one, "--minutes", "5") == 0
    assert (
        f"wait for a second call: lyceum bench gpu {one} --after {one}" in capsys.readouterr().out
    )
    first = set(watched.allowed)
    assert first >= set(FIRST)
    for out, after in ((two, one / "all.json"), (one, one)):
        watched.allowed.clear()
        assert _gpu(out, "--minutes", "10", "--after", after) == 0
        every = {part.name for part in parts_of(out, dry=False)}
        assert set(watched.allowed) == every - first
        said = capsys.readouterr().out
        assert "kernels: skipped, as it is done (NVIDIA H200, 2026-11-28)" in said
        everything = json.loads((out / "all.json").read_text())
        assert everything["parts"] == {name: LEFT.get(name, {}) for name in every}
        assert {one["state"] for one in everything["summary"]["outcomes"]} == {"done"}
        assert "done (NVIDIA H200, 2026-11-28)" in _report(out)


def test_what_failed_is_tried_again_and_what_is_named_alone(tmp_path: Path) -> None:
    """Catches a failed part that counts as done; the usage that the project's notes name."""
    chosen = [_part("good", "pass", 10), _part("bad", "pass", 10), _part("late", "pass", 10)]
    watched = Watched({"late": 1000}, {"bad": "failed"})
    watched.go(chosen, tmp_path, minutes=2)
    assert [one.part for one in earlier_call(tmp_path, dry=False).done] == ["good"]


def test_parts_can_be_named(tmp_path: Path, watched: Watched) -> None:
    """Catches a named part that is left out, and others that run beside it."""
    assert _gpu(tmp_path / "one", *FIRST, "--minutes", "5") == 0
    assert list(watched.allowed) == FIRST
    watched.allowed.clear()
    assert _gpu(tmp_path / "two", "ceilings", "--minutes", "0.1") == 1, "nothing could run"
    assert not watched.allowed


def test_an_earlier_calls_figures_are_not_overwritten(
    tmp_path: Path, watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches minutes of a GPU lost to a second call that forgot --after."""
    one, two = tmp_path / "one", tmp_path / "two"
    assert _gpu(one, "ceilings") == 0
    assert _gpu(two, "kernels") == 0
    before = (one / "all.json").read_bytes()
    watched.allowed.clear()
    capsys.readouterr()
    for words in ([], ["kernels"], ["--after", two]):
        assert _gpu(one, *words) == 2
        shown = capsys.readouterr()
        assert shown.out == "" and shown.err.count("\n") == 1
        assert f"--after {one}" in shown.err and "name another OUT" in shown.err
    assert (one / "all.json").read_bytes() == before and not watched.allowed
    (tmp_path / "empty").mkdir()
    assert _gpu(tmp_path / "empty", "kernels") == 0
    assert _gpu(one, "kernels", "--after", one / "all.json") == 0


def test_a_call_that_measured_nothing_is_overwritten(tmp_path: Path, watched: Watched) -> None:
    """Catches an OUT that a machine without a GPU has used up; a damaged record is not lost."""
    record = tmp_path / "all.json"
    record.write_text('{"summary": {}, "parts": {}}')
    assert _gpu(tmp_path, "ceilings") == 0
    record.write_text('{"summary": {')
    assert _gpu(tmp_path, "ceilings") == 2


def test_an_earlier_call_that_is_none_is_one_line(
    tmp_path: Path, watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a misspelt OUT that starts everything anew, and dry figures beside real ones."""
    assert _gpu(tmp_path, "--after", tmp_path / "nowhere") == 2
    assert "no all.json of an earlier call (FileNotFoundError" in capsys.readouterr().err
    (tmp_path / "all.json").write_text('{"parts": {}}')
    assert _gpu(tmp_path, "--after", tmp_path) == 2
    assert "no all.json of an earlier call (KeyError: 'summary')" in capsys.readouterr().err
    _gpu(tmp_path / "dry", "ceilings", "--dry")
    assert _gpu(tmp_path, "--after", tmp_path / "dry") == 2
    assert "it was a dry run and this is not; name another OUT" in capsys.readouterr().err
    assert not (tmp_path / "kernels.json").exists()


def test_without_a_gpu_every_part_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches figures of a CPU that pass for a GPU's."""
    monkeypatch.setattr(command, "describe_machine", lambda command: NONE)
    assert _gpu(tmp_path) == 1
    shown = capsys.readouterr()
    assert shown.err == (
        "lyceum: error: bench gpu: nothing was measured here: needs a GPU; --dry runs it on the"
        " CPU\n"
    )
    lines = shown.out.splitlines()
    found = parts_of(tmp_path, dry=False)
    assert lines[:-1] == [
        f"{part.name}: not run after 0 s: needs a GPU; --dry runs it on the CPU" for part in found
    ]
    report = _report(tmp_path)
    assert report.count("not measured: needs a GPU; --dry runs it on the CPU") == len(found) + 1
    assert not list(tmp_path.glob("*.log"))


def test_what_a_machine_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an old GPU or an absent wheel that ends in a stack trace."""
    turing = Machine("Tesla T4", (7, 5), 15.0)
    step = next(part for part in parts_of(tmp_path, dry=False) if part.name == "step")
    assert why_not(step, turing, dry=False) == (
        "needs a GPU of compute capability 8.0 or newer, not 7.5 (Tesla T4)"
    )
    assert why_not(step, HOPPER, dry=False) is None
    assert why_not(step, NONE, dry=True) is None
    small = Machine("NVIDIA A10", (8, 6), 22.0)
    large = next(part for part in parts_of(tmp_path, dry=False) if part.name == "train-3b")
    assert why_not(large, HOPPER, dry=False) is None
    assert re.fullmatch(
        r"needs about \d+ GiB by formula, and NVIDIA A10 has 22",
        why_not(large, small, dry=False) or "",
    )
    absent = {"megatron.core", "webdataset"}
    monkeypatch.setattr(parts, "_installed", lambda name: name not in absent)
    assert why_not(step, NONE, dry=True) == (
        "needs megatron-core and webdataset, which is not installed"
    )


def test_the_reason_is_one_line() -> None:
    """Catches a signal, a silent end, or a long line that the summary does not explain."""
    assert reason_of(0, 5, ["all is well"]) == ""
    assert reason_of(-11, 5, []) == "signal 11: it said nothing"
    assert reason_of(2, 5, ["lyceum: error: a: b", " "]) == "exit 2: lyceum: error: a: b"
    long = reason_of(1, 5, ["x" * 1000])
    assert len(long) < 260 and "\n" not in long
    trace = ["Traceback", "ModuleNotFoundError: No module named 'deepspeed.ops'"]
    assert reason_of(1, 5, trace) == "needs deepspeed, which is not installed"


def test_large_files_are_packed_or_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a trace of 100 MB that a machine cannot give back."""
    monkeypatch.setattr(gpu_run, "MOST_BYTES", 1000)
    program = (
        f"import os; from pathlib import Path; out = Path({str(tmp_path)!r}); "
        "(out / 'trace.json').write_text('a' * 5000); (out / 'noise').write_bytes(os.urandom(5000))"
    )
    leaves = ["trace.json", "trace.json.gz", "noise"]
    part = Part("step", [sys.executable, "-c", program], 60, leaves)
    (result,) = run_parts([part], tmp_path, HOPPER, False, 600)
    assert result.leaves == ["trace.json.gz"]
    assert gzip.decompress((tmp_path / "trace.json.gz").read_bytes()) == b"a" * 5000
    assert "trace.json is packed as trace.json.gz" in result.tail
    assert any(line.startswith("noise is left out") for line in result.tail)


def test_plots_come_in_one_file(tmp_path: Path) -> None:
    """Catches plots of a folder too deep to be brought back."""
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "glu.svg").write_text("<svg/>")
    (tmp_path / "step.svg").write_text("<svg/>")
    run_parts([_part("good", "pass")], tmp_path, HOPPER, True, 600)
    with zipfile.ZipFile(tmp_path / "plots.zip") as archive:
        assert archive.namelist() == ["plots/glu.svg", "step.svg"]
    assert "- plots/glu.svg" in _report(tmp_path)
    assert DRY in _report(tmp_path)


def test_unknown_shapes_of_json_become_tables() -> None:
    """Catches a figure that a report leaves out because nobody foresaw it."""
    content = {"a": {"b": 1.23456}, "c": [{"d": 1, "e": {"f": None}}, {"d": 2}], "g": [1, 2]}
    lines = "\n".join(any_table(content))
    assert "| a.b | 1.235 |" in lines and "| g | 1, 2 |" in lines
    assert "c:\n\n| d | e.f |\n|---|---|\n| 1 | not measured |\n| 2 | not measured |" in lines
    bench = {
        "results": [
            {
                **{"family": "glu", "operator": "forward", "size": "8 x 8", "work_flops": 0},
                **{"implementation": None, "measurement": None, "failure": None},
                **{"floor_seconds": 1e-6, "ceiling_share": None},
            }
        ]
    }
    assert "| glu forward | 8 x 8 | - | not measured | 1 | not measured |" in list(
        section_of("bench", bench)
    )


def test_curves_that_differ_or_break_off_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a comparison that a NaN passes."""
    for losses, code in (([3.0, 2.0], 0), ([3.0, 2.1], 1), ([3.0, float("nan")], 1)):
        ran: list[Path] = []

        def pretend(command: list[str], check: bool, ran=ran, losses=losses) -> None:  # type: ignore[no-untyped-def]
            run = next(Path(word[4:]) for word in command if word.startswith("run="))
            run.mkdir(parents=True)
            values = losses if ran else [3.0, 2.0]
            ran.append(run)
            text = "".join(json.dumps({"loss": value}) + "\n" for value in values)
            (run / "metrics.jsonl").write_text(text)

        monkeypatch.setattr(curve.subprocess, "run", pretend)
        assert curve.main(["cpu", "cpu", str(tmp_path / "curve.json")]) == code
        assert len(ran) == 2


def test_dry_parts_run_on_this_machine(tmp_path: Path) -> None:
    """Catches a script whose first run, on a GPU, is its first run."""
    assert _gpu(tmp_path, "curve", "ceilings", "--dry", "--minutes", "1e6") == 0
    report = _report(tmp_path)
    assert DRY in report and "The largest difference is 0 nats" in report
    assert "TFLOP/s on cpu" in report
    curves = json.loads((tmp_path / "curve.json").read_text())
    assert [len(losses) for losses in curves["losses"]] == [5, 5]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [one["part"] for one in summary["outcomes"]] == ["ceilings", "curve"]
    assert summary["machine"]["environment"]["packages"]["torch"]


def test_the_machine_is_described_without_torch_in_this_process() -> None:
    """Catches an environment that is not asked for, or a process that holds the GPU itself."""
    found = describe_machine("python -m this")
    assert found.run["command"] == "python -m this"
    assert found.environment["packages"]["torch"] and found.run["versions"]["triton"]


def test_an_unknown_part_or_size_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a misspelt part that is silently left out."""
    assert _gpu(tmp_path, "kernel") == 2
    assert "no part is called 'kernel'; there are ceilings, kernels" in capsys.readouterr().err
    assert _gpu(tmp_path, "--sizes", "7b") == 2
    assert "--sizes: '7b' is unknown; there are 1.2b, 160m, 3b" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        '{"summary": {"machine": 3, "dry": true, "outcomes": []}, "parts": {}}',
        '{"summary": {"machine": {"gpu": null, "run": null}, "dry": true, "outcomes": []},'
        ' "parts": {}}',
        '{"summary": {"machine": {"gpu": null, "run": {}}, "dry": true, "outcomes":'
        ' [{"part": "ceilings", "state": "done"}]}, "parts": {"ceilings": {}}}',
        '{"summary": 1, "parts": [1]}',
    ],
)
def test_a_damaged_record_of_an_earlier_call_is_one_line(tmp_path: Path, content: str) -> None:
    """Would catch a stack trace where all.json is not what a call leaves."""
    (tmp_path / "all.json").write_text(content)
    with pytest.raises(RecipeError, match=r"--after .*: no all.json of an earlier call"):
        earlier_call(tmp_path, dry=True)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    """Would catch a stack trace where OUT is a file."""
    (tmp_path / "out").write_text("")
    with pytest.raises(RecipeError, match="cannot be made a folder"):
        EarlierCall().copy_figures(tmp_path / "out")
