"""The kernel benchmark: its figures, its files, and what it says where there is no GPU."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kernels import command, tiles
from kernels.bench import peers, rms_norm
from kernels.bench.case import BenchCase, TuneCase
from kernels.bench.ceilings import H200, Ceilings
from kernels.bench.families import ALIASES, chosen, families, load
from kernels.bench.measure import measure, quantile
from kernels.bench.peers import backward_of, flash_attention, liger
from kernels.bench.plot import plot
from kernels.bench.run import describe_run
from kernels.bench.table import Result, document, floors, markdown, time_text
from kernels.bench.tune import fastest, rewrite, tune_family
from kernels.command import measure_case
from tests.kernels.oracle import assert_close, tolerance
from trainer.cli import main

CPU = torch.device("cpu")


class CountingClock:
    """Says of each call what `cost` says, a little more from call to call; runs it once a round."""

    def __init__(self, cost: Callable[[], float] = lambda: 1e-3) -> None:
        self.cost = cost
        self.rounds: list[int] = []

    def seconds(self, function: Callable[[], object], calls: int) -> list[float]:
        function()
        self.rounds.append(calls)
        return [self.cost() * (1 + number / (calls - 1 or 1)) for number in range(calls)]

    def peak_bytes(self, function: Callable[[], object]) -> int:
        return 3 * 2**20


def case(traffic: int = 4_300_000_000, work: int = 0, **functions: Any) -> BenchCase:
    return BenchCase("forward", "2 x 4096", 4096, traffic, work, lambda device: functions)


def test_a_measurement_is_the_median_of_enough_calls() -> None:
    """Catches a mean, a median of too few calls, and timing before the function is warm."""
    clock = CountingClock()
    ran = []
    found = measure(lambda: ran.append(0), clock, warm_up=0.03, enough=0.15)
    assert clock.rounds == [5, 20, 100]  # the estimate is 1.5 ms
    assert found.median_seconds == pytest.approx(1.5e-3)
    assert found.low_seconds == pytest.approx(1.2e-3)
    assert found.high_seconds == pytest.approx(1.8e-3)
    assert (found.calls, found.peak_bytes) == (100, 3 * 2**20)
    assert len(ran) == 1 + len(clock.rounds)  # once to compile, before anything is timed


@pytest.mark.parametrize(("seconds", "calls"), [(10.0, 10), (1e-9, 1000)])
def test_the_number_of_calls_is_bounded(seconds: float, calls: int) -> None:
    """Catches a slow kernel measured once, and a fast one for ever."""
    assert measure(lambda: None, CountingClock(lambda: seconds)).calls == calls


def test_quantiles_lie_between_neighbours() -> None:
    """Catches an index that is off by one, which a long list hides."""
    assert quantile([3.0, 1.0, 2.0, 10.0], 0.5) == 2.5
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([7.0], 0.8) == 7.0
    assert [quantile([1.0, 2.0], share) for share in (0.0, 1.0)] == [1.0, 2.0]


def test_the_floor_is_what_memory_or_tensor_cores_need() -> None:
    """Catches a sum of both, and a rate held against the wrong ceiling."""
    assert H200.floor_seconds(case(4_300_000_000)) == pytest.approx(1e-3)
    assert H200.floor_seconds(case(4_300_000_000, 7_900_000_000_000)) == pytest.approx(1e-2)
    (memory,) = measure_case("f", case(eager=list), H200, CPU, CountingClock(lambda: 2e-3))
    assert memory.rate == pytest.approx(4.3e9 / 3e-3)
    assert memory.ceiling_share == memory.floor_share == pytest.approx(1 / 3)
    work = case(4_300_000_000, 79_000_000_000, eager=list)  # traffic takes ten times the work
    (bound,) = measure_case("f", work, H200, CPU, CountingClock(lambda: 2e-3))
    assert bound.floor_share == pytest.approx(1 / 3)
    assert bound.ceiling_share == pytest.approx(1 / 30)


def test_a_peers_failure_is_shown_and_ours_is_raised() -> None:
    """Catches a peer that ends an hour's run, and a broken kernel of ours shown as a peer's."""

    def fails() -> None:
        raise RuntimeError("no kernel\nimage")

    def exhausted() -> Any:
        raise torch.OutOfMemoryError

    peer, ours = measure_case("f", case(liger=fails, lyceum=list), H200, CPU, CountingClock())
    assert peer.failure == "RuntimeError: no kernel image"
    assert peer.rate is None
    assert "no kernel image" in markdown([peer, ours])
    full = BenchCase("forward", "", 1, 1, 0, lambda device: exhausted())
    (none,) = measure_case("f", full, H200, CPU, CountingClock())
    assert (none.implementation, none.failure) == (None, "out of memory")
    assert "| - " in markdown([none])
    with pytest.raises(RuntimeError, match="no kernel"):
        list(measure_case("f", case(lyceum=fails), H200, CPU, CountingClock()))


def test_a_backward_pass_can_be_repeated() -> None:
    """Catches a graph that the first call frees, and gradients that add up."""
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    run = backward_of((x * x, 2 * x), (torch.ones(3), torch.ones(3)), (x,))
    for _ in range(2):
        (gradient,) = run()  # type: ignore[misc]
        assert torch.equal(gradient, 2 * x + 2)


def test_peers_that_are_not_installed_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an ImportError, or a figure for what never ran."""

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    assert liger() is None
    assert flash_attention() is None


FLOORS = {  # seconds, from the ceilings of H200; a figure of two or three digits each
    "rms_norm": {"forward": 31e-6, "backward": 47e-6, "add forward": 62e-6, "add backward": 62e-6},
    "layer_norm": {"forward": 31e-6, "backward": 47e-6},
    "glu": {"swiglu forward": 164e-6, "swiglu backward": 273e-6},
    "rope": {"": 39e-6},
    "cross_entropy": {"": 0.98e-3},
    "linear_cross_entropy": {"forward": 10.9e-3},
    "attention": {"forward": 0.70e-3, "backward": 1.74e-3},
}


@pytest.mark.parametrize("family", FLOORS)
def test_floors_are_those_computed_by_hand(family: str) -> None:
    """Catches a tensor that is counted twice or forgotten, which flatters or hides a kernel."""
    if family not in families():
        pytest.skip(f"there is no family {family} yet")
    cases = list(load(family).bench_cases("model"))
    for operator, seconds in FLOORS[family].items():
        found = [H200.floor_seconds(one) for one in cases if operator in one.operator]
        # The figures have two digits and leave out small inputs, such as RoPE's table.
        near = [floor for floor in found if abs(floor - seconds) <= 0.03 * seconds]
        assert near, f"{operator}: {seconds} s expected, found {found}"


@pytest.mark.parametrize("family", families())
def test_every_family_has_cases(family: str) -> None:
    """Catches a family that is listed and measures, compiles or tunes nothing."""
    sweep, model = (list(load(family).bench_cases(sizes)) for sizes in ("sweep", "model"))
    assert sweep and model
    for cases in (sweep, model):
        names = [(one.operator, one.size) for one in cases]
        assert len(set(names)) == len(names)
        assert all(one.traffic > 0 and one.width > 0 for one in cases)
    compiled = [one.name for one in load(family).compile_cases()]
    assert compiled and len(set(compiled)) == len(compiled)
    for one in load(family).tune_cases():
        assert one.candidates
        for constants in one.candidates:
            assert constants.keys() == tiles.tile(one.kernel, one.width, CPU).keys()


@pytest.mark.parametrize("family", ["rms_norm", "layer_norm", "glu"])
def test_implementations_compute_the_same(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a peer that is measured at another task, as another eps or without the add."""
    module: Any = load(family)
    monkeypatch.setattr(rms_norm if family == "layer_norm" else module, "ROWS", 2)
    # Compiling takes a minute, and is PyTorch's to get right; Liger-Kernel does not run on a CPU.
    monkeypatch.setattr(peers, "compiled", lambda function: function)
    monkeypatch.setattr(peers, "liger", lambda: None)
    for one in module.bench_cases("model"):
        functions = one.prepare(CPU)
        assert functions.keys() >= {"lyceum", "eager", "compile"}
        right = _tensors(functions["eager"]())
        for name, function in functions.items():
            found = _tensors(function())
            assert len(found) == len(right)
            for number, (ours, theirs) in enumerate(zip(found, right, strict=True)):
                # Both round an fp32 result to bf16 at most twice, the add before the norm.
                allowed = tolerance(torch.bfloat16, terms=one.width, roundings=4)
                assert_close(f"{family} {one.operator} {name} {number}", ours, theirs, allowed)


def _tensors(output: object) -> list[torch.Tensor]:
    parts = output if isinstance(output, tuple) else (output,)
    return [part for part in parts if isinstance(part, torch.Tensor)]


def measured(*widths: int) -> list[Result]:
    """Results as a GPU would give them, made up."""
    found: list[Result] = []
    for width in widths:
        one = BenchCase("forward", f"2 x {width}", width, width * 10**6, 0, lambda device: {})
        for name, seconds in (("lyceum", 1e-6), ("eager", 3e-6)):
            ran = measure(list, CountingClock(lambda s=seconds: s))  # type: ignore[misc]
            floor = H200.floor_seconds(one)
            found.append(Result("norm", one, name, floor, H200.best_rate(one), ran))
    return found


def test_json_holds_every_figure_and_can_be_read_back() -> None:
    """Catches a figure that a report needs and the table only shows."""
    results = measured(2048)
    text = json.dumps(document(describe_run("lyceum bench kernels"), H200, results))
    read = json.loads(text)
    assert read.keys() == {"run", "ceilings", "results"}
    assert read["run"].keys() >= {"gpu", "driver", "power_limit_watts", "versions", "date"}
    assert read["run"]["versions"].keys() == {"torch", "triton", "liger-kernel", "flash-attn"}
    first = read["results"][0]
    assert first["implementation"] == "lyceum"
    assert first["measurement"]["median_seconds"] == pytest.approx(1.5e-6)
    assert first["rate"] == pytest.approx(2048e6 / 1.5e-6)
    assert first["rate_unit"] == "bytes/s"


def test_markdown_has_a_row_for_each_implementation() -> None:
    """Catches columns that slip, and times in a unit that hides digits."""
    lines = markdown(measured(2048, 4096)).splitlines()
    assert len(lines) == 2 + 4
    assert {line.count("|") for line in lines} == {9}
    assert len({len(line) for line in lines}) == 1
    assert [time_text(seconds) for seconds in (9.87e-6, 62.4e-6, 1.234e-3, 0.0456, 0.5)] == [
        *("9.87 us", "62.4 us", "1.23 ms", "45.6 ms", "500 ms")
    ]


def test_a_picture_a_family_is_drawn(tmp_path: Path) -> None:
    """Catches a plot that matplotlib refuses, which only a GPU machine would show."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    (path,) = plot(measured(2048, 4096, 8192), tmp_path, "a machine")
    assert path == tmp_path / "norm.png"
    assert path.read_bytes().startswith(b"\x89PNG")
    assert plot([Result("norm", case(), None, 1.0, 1.0)], tmp_path, "") == []


def tuned(kernel: str, width: int, costs: dict[int, float]) -> tuple[TuneCase, CountingClock]:
    """A case whose candidates cost what is said, by num_warps; infinity: does not fit."""
    from triton.runtime.errors import OutOfResources

    def warps() -> int:
        return tiles.tile(kernel, width, CPU)["num_warps"]

    def run() -> None:
        if costs[warps()] == float("inf"):
            raise OutOfResources(300_000, 232_448, "shared memory")

    candidates = [{"ROWS": 1, "BLOCK": width, "num_warps": number} for number in costs]
    return (
        TuneCase(kernel, width, candidates, lambda device: run),
        CountingClock(lambda: costs[warps()]),
    )


def test_an_operator_is_found_under_its_family() -> None:
    """Catches `lyceum bench kernels swiglu` knowing nothing of SwiGLU."""
    for name, family in ALIASES.items():
        assert chosen(name) == (family,)


def test_the_fastest_candidate_that_fits_is_chosen() -> None:
    """Catches the slowest, the last, and a candidate that cannot run ending the search."""
    one, clock = tuned("norm.forward", 64, {4: 3e-3, 8: 1e-3, 16: 2e-3, 32: float("inf")})
    found = fastest(one, CPU, clock)
    assert found is not None
    assert found[0] == {"ROWS": 1, "BLOCK": 64, "num_warps": 8}
    none, clock = tuned("norm.forward", 64, {4: float("inf")})
    assert fastest(none, CPU, clock) is None


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of tile tables of our own."""
    rows = [{"up_to": width, "ROWS": 1, "BLOCK": width, "num_warps": 4} for width in (64, 128)]
    table = {"source": "chosen", "kernels": {"forward": {"sm_80": rows}, "other": {"sm_80": rows}}}
    (tmp_path / "planted.json").write_text(json.dumps(table))
    monkeypatch.setattr(tiles, "FOLDER", tmp_path)
    yield tmp_path
    tiles._tile.cache_clear()
    tiles.table.cache_clear()


def test_tuning_rewrites_its_chips_rows_alone(
    tables: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches another chip's rows lost, a width's rows lost, and a table that no one can trace."""
    one, clock = tuned("planted.forward", 64, {4: 3e-3, 8: 1e-3})
    family = type("Family", (), {"tune_cases": staticmethod(lambda: iter([one]))})
    monkeypatch.setattr("kernels.bench.tune.load", lambda name: family)
    tune_family("planted", CPU, clock, "NVIDIA H200; torch 2.13.0")
    assert "planted.forward at 64: 1.50 ms" in capsys.readouterr().out
    read = json.loads((tables / "planted.json").read_text())
    assert [row["num_warps"] for row in read["kernels"]["forward"]["sm_90"]] == [8, 4]
    assert [row["num_warps"] for row in read["kernels"]["forward"]["sm_80"]] == [4, 4]
    assert read["kernels"]["other"].keys() == {"sm_80"}
    assert read["source"] == {
        "others": "chosen",
        "sm_90": "forward: measured on NVIDIA H200; torch 2.13.0",
    }
    assert tiles.tile("planted.forward", 64, CPU)["num_warps"] == 8
    with tiles.compiled_for("sm_80"):
        assert tiles.tile("planted.forward", 64, CPU)["num_warps"] == 4


def test_a_second_tuning_replaces_the_first(tables: Path) -> None:
    """Catches rows and sources that pile up; and the file keeps a row a line."""
    for number in (8, 16):
        best = {"planted.forward": [{"up_to": 96, "ROWS": 1, "BLOCK": 128, "num_warps": number}]}
        rewrite(tables / "planted.json", "sm_90", best, f"run {number}")
    text = (tables / "planted.json").read_text()
    assert '"sm_90": "forward: measured on run 16"' in text
    assert "run 8" not in text
    rows = json.loads(text)["kernels"]["forward"]["sm_90"]
    assert [row["up_to"] for row in rows] == [64, 96, 128]
    assert '        {"up_to": 96, "ROWS": 1, "BLOCK": 128, "num_warps": 16},\n' in text


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["bench", "kernels", *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    return shown.err


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_floors_are_shown_and_no_times(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a figure that nobody measured."""
    file = tmp_path / "figures.json"
    words = ["bench", "kernels", "rms_norm", "--sizes", "model", "--json", str(file)]
    assert main([*words, "--plots", str(tmp_path / "plots")]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("No GPU: nothing is measured.")
    assert "measured on one NVIDIA H200" in shown
    assert "| rms_norm add forward  | 8192 x 4096 bf16 | 268 MB  | -    | 62.4 us |" in shown
    assert "no plots" in shown
    assert list((tmp_path / "plots").iterdir()) == []
    read = json.loads(file.read_text())
    assert read["run"]["gpu"] is None
    assert read["run"]["command"] == "lyceum bench kernels rms_norm --sizes model"
    assert len(read["results"]) == 4
    for result in read["results"]:
        assert result["floor_seconds"] > 0
        assert result["implementation"] is result["measurement"] is result["rate"] is None


@pytest.mark.usefixtures("no_gpu")
def test_what_a_user_gets_wrong_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a stack trace, and a measurement whose figures cannot be kept."""
    assert "'rms_nom'; did you mean rms_norm?" in refused(capsys, "rms_nom")
    assert "there are " in refused(capsys, "zzz")
    assert "no family" in refused(capsys, "command")
    assert "--tune: needs a GPU" in refused(capsys, "--tune")
    assert "give only one of --compile-only, --tune" in refused(capsys, "--tune", "--compile-only")
    assert "--write: keeps" in refused(capsys, "--write")
    assert "--compile-only: measures no" in refused(capsys, "--compile-only", "--json", "a")
    assert "'huge' is not one of 'sweep', 'model'" in refused(capsys, "--sizes", "huge")
    missing = str(tmp_path / "missing" / "figures.json")
    assert f"{missing}: cannot be written" in refused(capsys, "--json", missing)


def test_a_closed_gate_is_one_line_and_not_zero(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a failing gate that a script takes for an open one."""
    from kernels.bench.errors import GateFailed

    def closed(names: object, *, write: bool) -> None:
        raise GateFailed("3 problems")

    monkeypatch.setattr("kernels.gate.command.gate_command", closed)
    assert main(["bench", "kernels", "rms_norm", "--compile-only"]) == 1
    assert capsys.readouterr().err == "lyceum: error: 3 problems\n"


def test_on_a_gpu_everything_is_measured_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a mistake that only a GPU machine would meet; clock, device and run are stand-ins."""
    run = describe_run("lyceum bench kernels")
    fields = vars(run) | {"gpu": "a GPU", "driver": "1.2", "power_limit_watts": 700.0}
    monkeypatch.setattr(command, "describe_run", lambda words: type(run)(**fields))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(command, "GpuClock", lambda device: CountingClock())
    ceilings = Ceilings(4e12, 7e14, "made up")
    monkeypatch.setattr(command, "measure_ceilings", lambda device, clock: ceilings)
    family = type("Family", (), {"bench_cases": staticmethod(lambda sizes: [case(lyceum=list)])})
    monkeypatch.setattr(command, "load", lambda name: family)
    file = tmp_path / "figures.json"
    command.kernels_command("rms_norm", json_file=file, plots=tmp_path)
    shown = capsys.readouterr().out
    assert "a GPU (driver 1.2, 700.0 W)" in shown
    assert "ceilings: 4 TB/s, 700 TFLOP/s (made up)" in shown
    assert "| rms_norm forward | 2 x 4096 | lyceum " in shown
    assert (tmp_path / "rms_norm.png").exists()
    assert json.loads(file.read_text())["results"][0]["measurement"]["calls"] > 0


def test_floors_are_a_table() -> None:
    """Catches work shown as traffic."""
    text = floors([Result("f", case(work=550_000_000_000), None, 1e-3, 1.0)])
    assert "| f forward | 2 x 4096 | 4,300 MB | 0.55 TFLOP | 1.00 ms |" in text
