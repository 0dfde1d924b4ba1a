"""The parts of a GPU run: what each runs, needs and leaves, and its share of time."""

import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.bench.gpu.machine import Machine

WHEELS = {"deepspeed": "deepspeed", "megatron.core": "megatron-core", "webdataset": "webdataset"}
"""By module: what a bare machine with torch has to be given."""

TRAINING = ("megatron.core", "webdataset", "pydantic", "rich", "tokenizers")


@dataclass(frozen=True)
class Size:
    """A model whose training is measured: its recipe, and what makes that fit into its seconds."""

    recipe: str
    keys: tuple[str, ...]
    """A batch whose step is short enough to be timed often."""
    peers: str
    ours: str
    steps: int
    seconds: float


SIZES: dict[str, Size] = {
    "160m": Size(
        "small", ("batch.sequences=32", "batch.micro=16"), "all", "eager,compiled", 20, 65
    ),
    "1.2b": Size("1b", ("batch.sequences=8", "batch.micro=4"), "all", "eager,compiled", 8, 120),
    "3b": Size("3b", ("batch.sequences=4", "batch.micro=2"), "bare-compiled", "eager", 8, 60),
}
"""By name. All peers run where it counts, at 1.2B, and where they are quick."""

PEER_SECONDS = 45
"""A peer that compiles for longer than that is given up, for the sake of the others."""

ONE_GPU = ("zero.stage=0", "data.workers=1")
"""Nothing to shard; one process reads ahead."""

# Not all peers: on a CPU each takes long to start, and its compiler longer.
_TINY = Size(
    "tiny", ("steps=30", "sequence_length=32", "model.layers=2"), "bare,megatron-local", "", 2, 0
)


@dataclass(frozen=True)
class Part:
    """One process: what it runs, what it needs and leaves in OUT, and its seconds at most."""

    name: str
    command: list[str]
    seconds: float
    leaves: list[str]
    about: str = ""
    """What it shows, in a line."""
    needs: tuple[str, ...] = ()
    """Modules without which it cannot run."""
    environment: Mapping[str, str] = field(default_factory=dict)
    recipe: tuple[str, tuple[str, ...]] | None = None
    """A recipe and keys whose memory must fit."""


def parts_of(out: Path, dry: bool, sizes: Iterable[str] = tuple(SIZES)) -> list[Part]:
    """All parts, in the order in which they run; at their smallest, on the CPU, where `dry`."""
    python = [sys.executable, "-m"]
    lyceum = [*python, "trainer"]
    bench = [*lyceum, "bench", "kernels"]
    device = "cpu" if dry else "cuda"
    waits = ["--ways", "fp32, logits", "bf16, recompute full"] if dry else []
    return [
        Part(
            "ceilings",
            [*python, "trainer.bench.gpu.ceilings", str(out / "ceilings.json")],
            15,
            ["ceilings.json"],
            "what the device can do at best, in this run",
        ),
        Part(
            "kernels",
            [*bench, "--check", "--json", str(out / "kernels.json")],
            100,
            ["kernels.json"],
            "every kernel's results and gradients beside fp64, in fp32 and bf16",
            ("triton",),
            # Without a GPU the interpreter runs them.
            {"LYCEUM_KERNELS": "triton"} if dry else {},
        ),
        Part(
            "curve",
            [*python, "trainer.bench.gpu.curve", str(out / "curve.json"), "cpu", device],
            35,
            ["curve.json"],
            "five steps of the tiny recipe in fp32, beside the CPU's",
            TRAINING,
        ),
        Part(
            "groups",
            [*python, "trainer.doctor.groups", str(out / "groups.json"), "--device", device],
            50,
            ["groups.json"],
            "every group, collective, schedule and way through a step, on one rank",
            TRAINING,
        ),
        Part(
            "waits",
            [*python, "trainer.doctor.waits", str(out / "waits.json"), "--device", device, *waits],
            30,
            ["waits.json"],
            "where the host waits for the device in a step",
            TRAINING,
        ),
        *(_train(size, out, dry) for size in sizes),
        *_one_step(lyceum, out, dry),
        Part(
            "bench",
            [
                *bench,
                *("--sizes", "model"),
                *("--json", str(out / "bench.json"), "--plots", str(out / "plots")),
            ],
            50,
            ["bench.json"],
            "our kernels beside others' and the ceilings",
            ("triton",),
        ),
    ]


def _train(name: str, out: Path, dry: bool) -> Part:
    size = _TINY if dry else SIZES[name]
    part = f"train-{name}"
    # One of the sizes shows that peers run: on a CPU each of them takes a while to start.
    peers = "none" if dry and name != next(iter(SIZES)) else size.peers
    words = ["--made", "--peers", peers, "--pairs", "1", "--steps", str(size.steps)]
    words += ["--peer-seconds", str(PEER_SECONDS)]
    ours = ["--ours", size.ours] if size.ours else []
    files = ["--json", str(out / f"{part}.json"), "--plot", str(out / f"{part}.svg")]
    command = [sys.executable, "-m", "trainer", "bench", "train", size.recipe, *size.keys, *ONE_GPU]
    return Part(
        part,
        [*command, *words, *ours, *files],
        SIZES[name].seconds,
        [f"{part}.json", f"{part}.svg"],
        f"training of {name.upper()} parameters, beside peers on the same tokens",
        TRAINING,
        recipe=(size.recipe, (*size.keys, *ONE_GPU)),
    )


def _one_step(lyceum: Sequence[str], out: Path, dry: bool) -> list[Part]:
    size = _TINY if dry else SIZES["1.2b"]
    words = [size.recipe, *size.keys, *ONE_GPU]
    on = ["--on", "cpu"] if dry else []
    trace = out / "trace.json"
    step = [
        *("--json", str(out / "step.json"), "--markdown", str(out / "step.md")),
        *("--plot", str(out / "step.svg"), "--trace", str(trace)),
    ]
    return [
        Part(
            "step",
            [*lyceum, "bench", "step", *words, *on, *step],
            45,
            ["step.json", "step.md", "step.svg", trace.name, f"{trace.name}.gz"],
            "the floor of each part of a step, and what it took",
            TRAINING,
            recipe=(size.recipe, (*size.keys, *ONE_GPU)),
        ),
        Part(
            "memory",
            [*lyceum, "bench", "memory", *words, "--json", str(out / "memory.json")],
            20,
            ["memory.json"],
            "memory by formula, and as measured",
            TRAINING,
        ),
    ]


def why_not(part: Part, machine: Machine, dry: bool) -> str | None:
    """Why the part cannot run on this machine, in a line; None where it can."""
    missing = [name for name in part.needs if not _installed(name)]
    if missing:
        return f"needs {' and '.join(WHEELS.get(n, n) for n in missing)}, which is not installed"
    return None if dry else machine.why_not() or _too_large(part, machine)


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def _too_large(part: Part, machine: Machine) -> str | None:
    """By the formula of trainer.plan.memory; nothing is known of parts without a recipe."""
    if part.recipe is None or machine.memory_gib is None:
        return None
    from launch.local import find_recipe
    from trainer.plan.memory import memory
    from trainer.recipe import load_recipe

    name, keys = part.recipe
    recipe = load_recipe(find_recipe(name), list(keys))
    assert recipe.model.vocab is not None, "shipped recipes say it"
    needed = memory(recipe, 1, recipe.model.vocab).peak / 2**30
    if needed <= machine.memory_gib:
        return None
    return (
        f"needs about {needed:.0f} GiB by formula, and {machine.gpu} has {machine.memory_gib:.0f}"
    )
