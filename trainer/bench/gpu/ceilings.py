"""What the device can do at best, measured: python -m trainer.bench.gpu.ceilings FILE."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path


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


def main(words: Sequence[str] | None = None) -> int:
    """Always 0: what cannot be measured raises."""
    parser = argparse.ArgumentParser(prog="python -m trainer.bench.gpu.ceilings")
    parser.add_argument("file", type=Path)
    call = parser.parse_args(words)
    content = measured_here()
    call.file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(content))
    return 0


if __name__ == "__main__":
    sys.exit(main())
