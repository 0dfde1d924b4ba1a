"""`lyceum bench gpu OUT`: everything that wants a GPU, in one call or in two.

launch/benchmarks/README.md says what each part is.
"""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from trainer.bench.gpu.machine import describe_machine
from trainer.bench.gpu.parts import SIZES, parts_of
from trainer.bench.gpu.result import RECORD, EarlierCall, earlier_call, holds_figures, record_of
from trainer.bench.gpu.run import CALL_SECONDS, run_parts
from trainer.errors import LyceumError, RecipeError


def gpu_command(
    out: Path,
    parts: Sequence[str] = (),
    *,
    dry: bool,
    minutes: float,
    after: Path | None = None,
    sizes: str = "",
) -> int:
    """Run the named parts, or all, and leave their figures and one report in `out`.

    `dry`: every part at its smallest, on the CPU. `minutes`: of the whole call; parts that they do
    not hold whole wait for a call with `after`, the OUT (or its all.json) of this one, which runs
    what has not ended well. `sizes`: the models to train, with commas; empty: all.
    Returns 0 where every part that was begun ended well, and one did, else 1. Raises RecipeError
    for a part, a size or an earlier call that is none, and where `out` holds the figures of a call
    that is not `after`; LyceumError where this machine can measure nothing.
    """
    began = time.monotonic()
    models = sizes.split(",") if sizes else list(SIZES)
    if wrong := [size for size in models if size not in SIZES]:
        raise RecipeError(f"--sizes: {wrong[0]!r} is unknown; there are {', '.join(SIZES)}")
    known = parts_of(out, dry, models)
    names = [part.name for part in known]
    if wrong := [name for name in parts if name not in names]:
        raise RecipeError(f"no part is called {wrong[0]!r}; there are {', '.join(names)}")
    earlier = EarlierCall() if after is None else earlier_call(after, dry)
    if holds_figures(out / RECORD) and (
        after is None or record_of(after).resolve() != (out / RECORD).resolve()
    ):
        raise RecipeError(
            f"{out}: holds the figures of an earlier call, which this one would overwrite; give"
            f" --after {out} to run what it left, or name another OUT"
        )
    earlier.copy_figures(out)
    shown = {*(parts or names), *(result.part for result in earlier.done)}
    words = ["lyceum", "bench", "gpu", str(out), *parts, "--minutes", f"{minutes:g}"]
    machine = describe_machine(shlex.join(words))
    results = run_parts(
        [part for part in known if part.name in shown],
        out,
        machine,
        dry,
        minutes * 60 - max(CALL_SECONDS, time.monotonic() - began),
        earlier.done,
    )
    print(f"written: {out / 'REPORT.md'}")
    states = [result.state for result in results]
    if waiting := states.count("left out"):
        print(f"{waiting} parts wait for a second call: lyceum bench gpu {out} --after {out}")
    if states and not dry and (why := machine.why_not()):
        raise LyceumError(f"bench gpu: nothing was measured here: {why}")
    begun = [state for state in states if state != "left out"]
    return int(any(state != "done" for state in begun) or (bool(states) and not begun))
