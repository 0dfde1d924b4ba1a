"""Which implementation runs."""

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from kernels import dispatch, rms_norm
from kernels.launch import compiling


def imported(mode: str | None) -> subprocess.CompletedProcess[str]:
    """What a process with this LYCEUM_KERNELS says on import."""
    environment = {name: text for name, text in os.environ.items() if name != "LYCEUM_KERNELS"}
    if mode is not None:
        environment["LYCEUM_KERNELS"] = mode
    program = "from kernels.dispatch import MODE; print(repr(MODE))"
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )


def test_the_environment_chooses() -> None:
    """Catches a variable that is read under another name, or not at all."""
    for mode in (None, "", "reference", "triton"):
        answer = imported(mode)
        assert answer.stdout.strip() == repr(mode or ""), answer.stderr


def test_an_unknown_mode_is_named() -> None:
    """Catches a misspelt mode that silently means none."""
    answer = imported("Triton")
    assert answer.returncode != 0
    last = answer.stderr.strip().splitlines()[-1]
    assert last == (
        "ValueError: LYCEUM_KERNELS: 'Triton' is unknown; use reference, triton, or leave it out"
    )


@pytest.mark.parametrize(
    ("mode", "on_cpu", "on_cuda"),
    [("", False, True), ("reference", False, False), ("triton", True, True)],
)
def test_a_mode_holds_for_every_device(
    mode: str, on_cpu: bool, on_cuda: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a forced mode that a device overrules."""
    monkeypatch.setattr(dispatch, "MODE", mode)
    for is_cuda, right in ((False, on_cpu), (True, on_cuda)):
        assert dispatch.use_triton(cast(Any, SimpleNamespace(is_cuda=is_cuda))) is right


@pytest.mark.parametrize(("mode", "launches"), [("", 0), ("reference", 0), ("triton", 1)])
def test_operators_ask_the_rule(mode: str, launches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an operator with a rule of its own, and tests that run the reference unseen."""
    monkeypatch.setattr(dispatch, "MODE", mode)
    found: list[object] = []
    with compiling(lambda kernel, arguments, constants: found.append(kernel)):
        rms_norm(torch.randn(2, 8), torch.ones(8))
    assert len(found) == launches


def test_references_need_no_triton() -> None:
    """Catches a machine without Triton, such as a Mac, that cannot even import the operators."""
    program = """
import sys


class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "triton":
            raise ModuleNotFoundError("hidden", name="triton")


sys.meta_path.insert(0, Hidden())
import torch
import kernels
import kernels.dispatch

x = torch.randn(3, 8, requires_grad=True)
kernels.rms_norm(kernels.swiglu(x), torch.ones(4)).sum().backward()
qkv = torch.randn(4, 1, 2, 8)
visible = kernels.Visible.causal(1, 4)
kernels.attention(qkv, qkv, qkv, visible)
kernels.cross_entropy(x, torch.zeros(3, dtype=torch.int64), reduction="sum").backward()
try:
    kernels.attention(qkv, qkv, qkv, visible, backend="triton")
except ValueError as error:
    print(error)
kernels.dispatch.MODE = "triton"
try:
    kernels.swiglu(x)
except ValueError as error:
    print(error)
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    explicit, forced = answer.stdout.splitlines()
    assert explicit.startswith("backend: triton cannot run this: the package triton is not inst")
    assert forced.startswith("LYCEUM_KERNELS: triton needs the package triton")
