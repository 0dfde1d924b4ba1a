"""What the parts run on, asked once of a process of its own; torch stays out of this one."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

LEAST_CAPABILITY = (8, 0)
"""Ampere: bf16 products on tensor cores, and what Triton's kernels are compiled for."""

_PROGRAM = """
import json, sys
from dataclasses import asdict
import torch
found = dict.fromkeys(("gpu", "capability", "memory_gib"))
if torch.cuda.is_available():
    found["gpu"] = torch.cuda.get_device_name()
    found["capability"] = list(torch.cuda.get_device_capability())
    found["memory_gib"] = torch.cuda.mem_get_info()[1] / 2**30
from kernels.bench.run import describe_run
found["run"] = asdict(describe_run(sys.argv[1]))
try:
    from trainer.observe.environment import environment
    found["environment"] = environment()
except ImportError as error:
    found["environment"] = {"unknown": str(error)}
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Machine:
    """`gpu` None: there is none; then `capability` and `memory_gib` are None too."""

    gpu: str | None
    capability: tuple[int, int] | None
    memory_gib: float | None
    run: dict[str, Any] = field(default_factory=dict)
    """GPU, driver, power limit, versions, date, command: as the kernels' benchmark describes it."""
    environment: dict[str, Any] = field(default_factory=dict)
    """As RUN/environment.json: host, processor, packages, git revision."""

    def why_not(self) -> str | None:
        """Why nothing can be measured here, in a line; None where it can."""
        if self.gpu is None or self.capability is None:
            return "needs a GPU; --dry runs it on the CPU"
        if self.capability < LEAST_CAPABILITY:
            least, found = (
                f"{major}.{minor}" for major, minor in (LEAST_CAPABILITY, self.capability)
            )
            return f"needs a GPU of compute capability {least} or newer, not {found} ({self.gpu})"
        return None


def describe_machine(command: str) -> Machine:
    """This machine; what cannot be found out is left empty, with the last line of why."""
    answer = subprocess.run(
        [sys.executable, "-c", _PROGRAM, command], capture_output=True, text=True
    )
    if answer.returncode != 0:
        return Machine(None, None, None, environment={"unknown": answer.stderr.splitlines()[-1:]})
    found = json.loads(answer.stdout.splitlines()[-1])
    capability = found.pop("capability")
    return Machine(**found, capability=capability and (capability[0], capability[1]))
