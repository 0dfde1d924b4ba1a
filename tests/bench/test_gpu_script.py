"""The script for a machine with a GPU: no part's failure costs another its result."""

import gzip
import json
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainer.bench.gpu import command as gpu
from trainer.bench.gpu import curve, parts
from trainer.bench.gpu.command import main, run_parts
from trainer.bench.gpu.machine import Machine, describe_machine
from trainer.bench.gpu.outcome import reason_of
from trainer.bench.gpu.parts import SIZES, Part, parts_of, why_not
from trainer.bench.gpu.report import DRY
from trainer.bench.gpu.tables import any_table, section_of

HOPPER = Machine("NVIDIA H200", (9, 0), 140.0, {"command": "test"}, {"git": {"revision": "abc"}})
NONE = Machine(None, None, None)


def _part(name: str, program: str, seconds: float = 60, **fields: Any) -> Part:
    return Part(name, [sys.executable, "-c", program], seconds, [f"{name}.json"], name, **fields)


def _report(out: Path) -> str:
    return (out / "REPORT.md").read_text(encoding="utf-8")


def test_a_part_that_fails_or_hangs_costs_no_other(tmp_path: Path) -> None:
    """Catches ten minutes of a GPU lost to one bad kernel, and a reason that nobody can read."""
    write = (
        f"open({str(tmp_path / 'good.json')!r}, 'w').write('{{\"speed\": 1.5, \"none\": null}}')"
    )
    hang = (
        "import subprocess, sys; print('begun', flush=True); "
        "subprocess.run([sys.executable, '-c', 'while True: pass'])"
    )
    chosen = [
        _part("hanging", hang, seconds=6),
        _part("bad", "raise SystemExit('out of luck')"),
        _part("absent", "import no_such_wheel.inside"),
        _part("good", write),
    ]
    outcomes = run_parts(chosen, tmp_path, HOPPER, dry=False)
    assert [one.state for one in outcomes] == ["out of time", "failed", "failed", "done"]
    assert [one.exit_code for one in outcomes] == [None, 1, 1, 0]
    assert [one.reason for one in outcomes] == [
        "ran out of its 6 s; its last line: begun",
        "exit 1: out of luck",
        "needs no_such_wheel, which is not installed",
        "",
    ]
    assert [one.leaves for one in outcomes] == [[], [], [], ["good.json"]]
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
    run_parts([_part("half", program), _part("late", "exit(4)")], tmp_path, HOPPER, dry=False)
    report = _report(tmp_path)
    assert "What it left before that:\n\n| figure | value |\n|---|---|\n| a | 2 |" in report
    assert "| a | 9 |" not in report, "an earlier call's figure is not this one's"


def test_a_part_may_use_the_time_that_others_left(tmp_path: Path) -> None:
    """Catches a part that is cut off in the middle of ten minutes, and one that takes them all."""
    chosen = [_part("quick", "pass", 40), _part("slow", "pass", 40), _part("last", "pass", 20)]
    outcomes = run_parts(chosen, tmp_path, HOPPER, dry=False, spare=0.5)
    allowed = [one.allowed_seconds for one in outcomes]
    assert allowed[0] == 40.5
    assert 40.5 < allowed[1] <= 80.0 and allowed[2] == 40.0


@pytest.mark.parametrize("dry", [True, False])
def test_every_part_fits_into_ten_minutes(tmp_path: Path, dry: bool) -> None:
    """Catches parts whose limits add up to more than one call may take."""
    found = parts_of(tmp_path, dry)
    assert sum(part.seconds for part in found) <= 600 - gpu.OVERHEAD_SECONDS
    names = [part.name for part in found]
    assert len(set(names)) == len(names)
    assert {f"train-{size}" for size in SIZES} <= set(names)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The seconds that `main` gives to parts, which do not run."""
    given: list[float] = []

    def kept(chosen: list[Part], *_: Any, spare: float) -> list[Any]:
        given.extend([*(part.seconds for part in chosen), spare])
        return []

    monkeypatch.setattr(gpu, "run_parts", kept)
    monkeypatch.setattr(gpu, "describe_machine", lambda command: HOPPER)
    yield given


def test_minutes_bound_the_whole_call(tmp_path: Path, limits: list[float]) -> None:
    """Catches --minutes that is read and not kept."""
    assert main([str(tmp_path), "--minutes", "2"]) == 0
    assert sum(limits) == pytest.approx(120 - gpu.OVERHEAD_SECONDS) and limits[-1] == 0.0
    limits.clear()
    main([str(tmp_path), "ceilings", "--minutes", "2"])
    assert sum(limits) == pytest.approx(120 - gpu.OVERHEAD_SECONDS) and limits[-1] > 0


def test_without_a_gpu_every_part_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches figures of a CPU that pass for a GPU's."""
    monkeypatch.setattr(gpu, "describe_machine", lambda command: NONE)
    assert main([str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
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
    monkeypatch.setattr(gpu, "MOST_BYTES", 1000)
    program = (
        f"import os; from pathlib import Path; out = Path({str(tmp_path)!r}); "
        "(out / 'trace.json').write_text('a' * 5000); (out / 'noise').write_bytes(os.urandom(5000))"
    )
    leaves = ["trace.json", "trace.json.gz", "noise"]
    part = Part("step", [sys.executable, "-c", program], 60, leaves)
    (outcome,) = run_parts([part], tmp_path, HOPPER, dry=False)
    assert outcome.leaves == ["trace.json.gz"]
    assert gzip.decompress((tmp_path / "trace.json.gz").read_bytes()) == b"a" * 5000
    assert "trace.json is packed as trace.json.gz" in outcome.tail
    assert any(line.startswith("noise is left out") for line in outcome.tail)


def test_plots_come_in_one_file(tmp_path: Path) -> None:
    """Catches plots of a folder too deep to be brought back."""
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "glu.svg").write_text("<svg/>")
    (tmp_path / "step.svg").write_text("<svg/>")
    run_parts([_part("good", "pass")], tmp_path, HOPPER, dry=True)
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
        assert curve.main([str(tmp_path / "curve.json"), "cpu", "cpu"]) == code
        assert len(ran) == 2


def test_dry_parts_run_on_this_machine(tmp_path: Path) -> None:
    """Catches a script whose first run, on a GPU, is its first run."""
    assert main([str(tmp_path), "curve", "ceilings", "--dry"]) == 0
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
    with pytest.raises(SystemExit):
        main([str(tmp_path), "kernel"])
    assert "no part is called 'kernel'; there are ceilings, kernels" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--sizes", "7b"])
    assert "--sizes: '7b' is unknown; there are 160m, 1.2b, 3b" in capsys.readouterr().err
