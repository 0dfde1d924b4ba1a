"""`lyceum bench kernels --check` says that a kernel is right only where it is."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kernels import dispatch
from kernels.bench.check import check_kernels, checked_case
from kernels.bench.checks import glu as glu_checks
from kernels.bench.checks import norm as norm_checks
from kernels.bench.checks.case import CheckCase, Held
from kernels.bench.errors import BenchError, CheckFailed
from kernels.bench.families import families, load
from kernels.bench.processes import spread
from kernels.bench.run import describe_run
from kernels.bench.tolerance import relative_error, tolerance
from kernels.command import kernels_command
from trainer.cli import main

CPU = torch.device("cpu")


def case_of(found: Tensor, right: Tensor, allowed: float = 1e-3) -> CheckCase:
    def run() -> Iterator[Held]:
        yield Held("y", found, right, allowed)

    return CheckCase("made", "3", torch.float32, run)


def test_every_family_is_held_in_both_dtypes() -> None:
    """Catches a family that is benchmarked and never checked."""
    for name in families():
        for small in (True, False):
            found = {case.dtype for case in load(name).check_cases(CPU, small)}
            assert found == {torch.float32, torch.bfloat16}, name


def test_production_widths_are_left_to_gpus() -> None:
    """Catches a check on a GPU that holds tiny shapes only."""
    for name in families():
        cases = load(name).check_cases
        small, all_ = (len(list(cases(CPU, small))) for small in (True, False))
        assert all_ > small, name


@pytest.mark.parametrize("family", ["glu", "rope", "rms_norm", "linear_cross_entropy"])
def test_the_kernels_are_right_in_the_interpreter(family: str, tmp_path: Path) -> None:
    """Catches bounds that right kernels do not keep, and figures that are not written."""
    file = tmp_path / "check.json"
    check_kernels([family], describe_run("test"), file)
    content = json.loads(file.read_text())
    where = "compiled" if torch.cuda.is_available() else "Triton's interpreter on the CPU"
    assert where in content["implementation"]
    for case in content["cases"]:
        assert case["failure"] is None and case["results"]
        assert 0 <= case["error"] <= case["allowed"]


@pytest.mark.parametrize("family", families())
def test_the_references_are_right_too(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches bounds that hold for one implementation alone."""
    monkeypatch.setattr(dispatch, "MODE", "reference")
    cases = list(load(family).check_cases(CPU, True))
    wrong = [one for case in cases if (one := checked_case(family, case)).failure is not None]
    assert wrong == []


def test_a_wrong_result_is_caught(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Catches a check that lets an error of one part in a thousand through in fp32."""
    right = glu_checks.swiglu
    monkeypatch.setattr(glu_checks, "swiglu", lambda x: right(x) * 1.001)
    file = tmp_path / "check.json"
    with pytest.raises(CheckFailed, match=r"kernel checks failed, the first: swiglu"):
        check_kernels(["glu"], describe_run("test"), file)
    wrong = {case["operator"] for case in json.loads(file.read_text())["cases"] if case["failure"]}
    assert wrong == {"swiglu"}


def test_calls_in_processes_come_back_in_order() -> None:
    """Catches results beside another case's name, and a crash that is taken for a result."""
    found: list[tuple[int, int]] = []
    with pytest.raises(ZeroDivisionError):
        for one in spread(divmod, [*((number, 3) for number in range(7)), (1, 0)], most=2):
            found.append(one)
    assert found == [divmod(number, 3) for number in range(7)]
    assert list(spread(divmod, [])) == []


def test_a_wrong_gradient_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a check of the forward pass alone: here y is right and dx is doubled."""
    right = norm_checks.rms_norm

    def planted(x: Tensor, weight: Tensor) -> Tensor:
        return right(x + (x - x.detach()), weight)

    monkeypatch.setattr(norm_checks, "rms_norm", planted)
    found = [checked_case("rms_norm", case) for case in norm_checks.rms_norm_cases(CPU, True)]
    wrong = [one for one in found if one.failure is not None]
    assert wrong and {one.worst for one in wrong} == {"dx"}


def test_what_is_not_finite_or_stops_is_wrong() -> None:
    """Catches NaN, which compares as no error, and an exception that ends the whole check."""
    nan, ones = torch.full((3,), torch.nan), torch.ones(3)
    assert checked_case("made", case_of(nan, ones)).failure == ("y is off by inf, allowed is 0.001")
    assert checked_case("made", case_of(ones, ones)).failure is None

    def stops() -> Iterator[Held]:
        raise RuntimeError("no kernel image")
        yield

    stopped = checked_case("made", CheckCase("made", "3", torch.float32, stops))
    assert stopped.failure == "RuntimeError: no kernel image"


def test_errors_are_relative_to_what_cancels() -> None:
    """Catches an error held against a small difference, or divided by nothing."""
    found, right = torch.tensor([1e-6, 2.0]), torch.tensor([0.0, 2.0], dtype=torch.float64)
    assert relative_error(found, right) == pytest.approx(5e-7)
    assert relative_error(found, right, scale=10.0) == pytest.approx(1e-7)
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0.0
    assert relative_error(torch.ones(2), torch.zeros(2)) == float("inf")
    assert relative_error(torch.ones(2), torch.ones(3)) == float("inf")
    assert tolerance(torch.bfloat16) > tolerance(torch.float32)


def test_the_command_checks_and_fails_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a check that prints a table and exits as if all were well."""
    assert main(["bench", "kernels", "glu", "--check"]) == 0
    assert "18 of 18 cases are right" in capsys.readouterr().out
    monkeypatch.setattr(glu_checks, "swiglu", lambda x: x[..., : x.shape[-1] // 2] * 1.0)
    assert main(["bench", "kernels", "glu", "--check"]) == 1
    assert "kernel checks failed, the first: swiglu" in capsys.readouterr().err
    with pytest.raises(BenchError, match="--check: compares numbers and draws nothing"):
        kernels_command("glu", check=True, plots=Path("nowhere"))
