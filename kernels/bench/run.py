"""On what, with what and when something was measured."""

import importlib.metadata
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime

import torch

_PACKAGES = ("torch", "triton", "liger-kernel", "flash-attn")


@dataclass(frozen=True)
class BenchRun:
    """What a figure must be read with."""

    gpu: str | None
    """None: there is none."""
    driver: str | None
    power_limit_watts: float | None
    python: str
    versions: dict[str, str]
    date: str
    """UTC, to the second."""
    command: str

    def __str__(self) -> str:
        """In one line."""
        hardware = self.gpu or "no GPU"
        if self.driver is not None:
            hardware += f" (driver {self.driver}, {self.power_limit_watts or '?'} W)"
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{hardware}; Python {self.python}, {versions}; {self.date}; `{self.command}`"


def describe_run(command: str) -> BenchRun:
    """The machine and the environment of this process."""
    gpu = driver = watts = None
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_name()
        driver, watts = _driver_and_watts()
    return BenchRun(
        gpu=gpu,
        driver=driver,
        power_limit_watts=watts,
        python=platform.python_version(),
        versions={name: version_of(name) for name in _PACKAGES},
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
    )


def version_of(package: str) -> str:
    """The installed version, or "not installed"."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _driver_and_watts() -> tuple[str | None, float | None]:
    """Asked of nvidia-smi; unknown where that is missing or does not answer."""
    index = torch.cuda.current_device()
    name = f"GPU-{torch.cuda.get_device_properties(index).uuid}"
    words = ["--query-gpu=driver_version,power.limit", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(
            ["nvidia-smi", f"--id={name}", *words],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None, None
    driver, _, watts = answer.strip().partition(", ")
    try:
        return driver, float(watts)
    except ValueError:
        return driver, None
