"""The parts of a GPU run in their order: what each runs, needs and leaves, and its seconds.

The first four are what is wanted of five minutes: what the device can do, whether the kernels are
right, whether training is, and how fast it is beside torch.compile.
"""

import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    more_peers: str = ""
    """Those of a part of their own, "peers-NAME", which five minutes do not hold."""


SIZES: dict[str, Size] = {
    "1.2b": Size(
        "1b",
        ("batch.sequences=8", "batch.micro=4"),
        "bare,bare-compiled",
        "eager,compiled",
        8,
        110,
        more_peers="transformers-liger,torchtitan,megatron-local",
    ),
    "160m": Size(
        "small", ("batch.sequences=32", "batch.micro=16"), "all", "eager,compiled", 20, 65
    ),
    "3b": Size("3b", ("batch.sequences=4", "batch.micro=2"), "bare-compiled", "eager", 8, 60),
}
"""By name, the one that counts first. All peers run there and where they are quick."""

PEER_SECONDS = 75
"""A peer that compiles for longer than that is given up, for the sake of the others."""

MORE_PEERS_SECONDS = 100

ONE_GPU = ("zero.stage=0", "data.workers=1")
"""Nothing to shard; one process reads ahead."""

# Not all peers: on a CPU each takes long to start, and its compiler longer.
_TINY = Size(
    "tiny", ("steps=30", "sequence_length=32", "model.layers=2"), "bare,megatron-local", "", 2, 0
)


@dataclass(frozen=True)
class Part:
    """One process: what it runs, needs and leaves in OUT, and the seconds that hold it whole."""

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
    kernels = [*lyceum, "bench", "kernels"]
    device = "cpu" if dry else "cuda"
    chosen = [name for name in SIZES if name in set(sizes)]
    trained = [_train(name, out, dry) for name in chosen]
    first = [part for part in trained if part.name == "train-1.2b"]
    return [
        _part(
            *(out, "ceilings", [*python, "trainer.bench.gpu.ceilings"], 12),
            "what the device can do at best, in this run",
        ),
        _part(
            *(out, "kernels", [*kernels, "--check", "--json"], 80),
            "every kernel's results and gradients beside fp64, in fp32 and bf16",
            needs=("triton",),
            # Without a GPU the interpreter runs them.
            environment={"LYCEUM_KERNELS": "triton"} if dry else {},
        ),
        _part(
            *(out, "curve", [*python, "trainer.bench.gpu.curve", "cpu", device], 60),
            "five steps of the tiny recipe in fp32, beside the CPU's",
            needs=TRAINING,
        ),
        *first,
        _part(
            *(out, "doctor", [*lyceum, "doctor", "--self-test", "--device", device, "--json"], 80),
            "every group, collective, schedule and way through a step, and its waits, on one rank",
            needs=TRAINING,
        ),
        *_one_step(lyceum, out, dry),
        *(_train(name, out, dry, more=True) for name in chosen if SIZES[name].more_peers),
        *(part for part in trained if part not in first),
        _part(
            *(out, "bench"),
            [*kernels, "--sizes", "model", "--plots", str(out / "plots"), "--json"],
            *(50, "our kernels beside others' and the ceilings"),
            needs=("triton",),
        ),
    ]


def _part(
    out: Path,
    name: str,
    words: Sequence[str],
    seconds: float,
    about: str,
    more: Sequence[str] = (),
    **fields: Any,
) -> Part:
    """A part whose command ends in the file NAME.json, which it leaves beside the files `more`."""
    file = f"{name}.json"
    return Part(name, [*words, str(out / file)], seconds, [file, *more], about, **fields)


def _train(name: str, out: Path, dry: bool, more: bool = False) -> Part:
    size = _TINY if dry else SIZES[name]
    keys = _keys(size)
    part = f"{'peers' if more else 'train'}-{name}"
    peers = SIZES[name].more_peers if more else size.peers
    if dry and (more or name != next(iter(SIZES))):
        peers = "none"  # one part shows that they run: on a CPU each takes a while to start
    words = ["--made", "--peers", peers, "--pairs", "1", "--steps", str(size.steps)]
    words += ["--peer-seconds", str(PEER_SECONDS)]
    ours = ["--ours", "eager" if more and not dry else size.ours] if size.ours else []
    plot = f"{part}.svg"
    files = ["--plot", str(out / plot), "--json"]
    command = [sys.executable, "-m", "trainer", "bench", "train", size.recipe, *keys]
    return _part(
        *(out, part, [*command, *words, *ours, *files]),
        MORE_PEERS_SECONDS if more else SIZES[name].seconds,
        f"training of {name.upper()} parameters, beside {'more ' * more}peers on the same tokens",
        [plot],
        needs=TRAINING,
        recipe=(size.recipe, keys),
    )


def _keys(size: Size) -> tuple[str, ...]:
    # A run wants TensorBoard unless it says otherwise.
    without = () if _installed("tensorboard") else ("observe.tensorboard=false",)
    return (*size.keys, *ONE_GPU, *without)


def _one_step(lyceum: Sequence[str], out: Path, dry: bool) -> list[Part]:
    size = _TINY if dry else SIZES["1.2b"]
    words = [size.recipe, *(keys := _keys(size))]
    on = ["--on", "cpu"] if dry else []
    more = ["step.md", "step.svg", "trace.json"]
    options = zip(("--markdown", "--plot", "--trace"), more, strict=True)
    files = [word for option, name in options for word in (option, str(out / name))]
    return [
        _part(
            *(out, "step", [*lyceum, "bench", "step", *words, *on, *files, "--json"], 45),
            "the floor of each part of a step, and what it took",
            [*more, "trace.json.gz"],
            needs=TRAINING,
            recipe=(size.recipe, keys),
        ),
        _part(
            *(out, "memory", [*lyceum, "bench", "memory", *words, "--json"], 20),
            "memory by formula, and as measured",
            needs=TRAINING,
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
