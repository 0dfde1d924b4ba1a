"""What the device can do at best, measured: python -m trainer.bench.gpu.ceilings FILE."""

import dataclasses
import json
import sys
from pathlib import Path

from trainer.files import write_output


def measured_here() -> dict[str, object]:
    """Copy bandwidth and bf16 products on the GPU; on a CPU less of both, with the host's clock."""
    import torch

    from kernels.bench.ceilings import measure_ceilings
    from kernels.bench.measure import clock_of

    gpu = torch.cuda.is_available()
    device = torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")
    dtype = torch.bfloat16 if gpu else torch.float32
    found = measure_ceilings(device, clock_of(device), dtype)
    return dataclasses.asdict(found) | {"device": torch.cuda.get_device_name() if gpu else "cpu"}


if __name__ == "__main__":
    content = measured_here()
    write_output(Path(sys.argv[1]), content)
    print(json.dumps(content))
