"""Ours, the bare loop and the peers on one recipe, one after the other."""

import dataclasses
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from trainer.bench.clock import StepClock, Timing, reset_peak_memory
from trainer.bench.peers.process import SECONDS, PeerResult, half, run_peer
from trainer.bench.timing import bare_given, time_bare, time_ours
from trainer.errors import RecipeError
from trainer.plan.size import parameter_count
from trainer.recipe import Recipe

BARE = "bare"


@dataclass(frozen=True)
class LoopComparison:
    """Medians over the pairs. `ours` is the faster of the `variants`, called `variant`.

    `costs` is ours / bare - 1 of each pair, in time a step; empty where the bare loop did not run.
    """

    variant: str
    variants: dict[str, Timing]
    bare: Timing | None
    costs: tuple[float, ...]
    peers: tuple[PeerResult, ...]
    matrix_flops_per_second: float

    @property
    def ours(self) -> Timing:
        """Our fastest loop."""
        return self.variants[self.variant]

    @property
    def cost(self) -> float | None:
        """The median cost of our loop over the bare one's."""
        return statistics.median(self.costs) if self.costs else None

    def share(self, timing: Timing) -> float:
        """Model FLOP/s as a share of a large matrix product's, measured in the same run."""
        assert timing.flops_per_second is not None, "every loop counts its operations"
        return timing.flops_per_second / self.matrix_flops_per_second

    @property
    def best_peer(self) -> PeerResult | None:
        """Whoever of the others made the most tokens a second."""
        ran = [peer for peer in self.peers if peer.timing is not None]
        return max(ran, key=lambda one: one.timing.tokens_per_second, default=None)  # type: ignore[union-attr]

    def ratio(self, timing: Timing) -> float:
        """Our tokens a second over its."""
        return self.ours.tokens_per_second / timing.tokens_per_second


def compare(
    recipe: Recipe,
    loops: dict[str, Recipe],
    names: Sequence[str],
    pairs: int,
    steps: int,
    device: torch.device,
    peer_seconds: float = SECONDS,
) -> Iterator[LoopComparison]:
    """`pairs` rounds of ours and the bare loop, whose order changes each round, then the peers.

    Gives what is known after the rounds and after each peer, so that whoever is stopped has that.
    `recipe`'s vocabulary is known; `loops`: the recipes of our variants by name.
    """
    timed: dict[str, list[Timing]] = {name: [] for name in loops}
    bare = _Bare(recipe, device, steps) if BARE in names else None
    for pair in range(pairs):
        if bare is not None and pair % 2:
            bare.run()
        for name, loop in loops.items():
            timed[name].append(_ours(loop, steps))
        if bare is not None and not pair % 2:
            bare.run()
    medians = {name: _median(timings) for name, timings in timed.items()}
    variant = max(medians, key=lambda name: medians[name].tokens_per_second)
    costs: list[float] = []
    if bare is not None:
        both = zip(timed[variant], bare.timings, strict=False)  # none of bare's out of memory
        costs = [one.step_seconds / other.step_seconds - 1 for one, other in both]
    known = LoopComparison(
        variant=variant,
        variants=medians,
        bare=bare.result().timing if bare is not None else None,
        costs=tuple(costs),
        peers=(bare.result(),) if bare is not None else (),
        matrix_flops_per_second=matrix_flops(device, recipe.precision),
    )
    yield known
    reset_peak_memory(device)  # which the peers need, in processes of their own
    for name in names:
        if name != BARE:
            peer = run_peer(name, recipe, device, steps, peer_seconds)
            known = dataclasses.replace(known, peers=(*known.peers, peer))
            yield known


def _ours(recipe: Recipe, steps: int) -> Timing:
    try:
        return time_ours(recipe, steps)
    except torch.OutOfMemoryError as error:
        raise RecipeError(
            f"batch.micro: {recipe.batch.micro} sequences do not fit into the device's memory;"
            " lower it (lyceum bench memory says how many do)"
        ) from error


class _Bare:
    """The bare loop's runs, at a smaller micro-batch from the first that memory did not hold."""

    def __init__(self, recipe: Recipe, device: torch.device, steps: int) -> None:
        self.timings: list[Timing] = []
        self._recipe, self._device, self._steps = recipe, device, steps
        self._too_large: list[int] = []
        self._problem: str | None = None

    def run(self) -> None:
        """Time it once."""
        while self._problem is None:
            micro = self._recipe.batch.micro
            try:
                self.timings.append(time_bare(self._recipe, self._device, self._steps))
                return
            except torch.OutOfMemoryError:
                self._too_large.append(micro)
            if micro == 1:
                self._problem = "out of memory at micro 1"
            micro = half(micro, self._recipe.batch.sequences)
            self._recipe = self._recipe.replaced({"batch.micro": micro})

    def result(self) -> PeerResult:
        """What became of it."""
        vocab = self._recipe.model.vocab
        assert vocab is not None
        return PeerResult(
            name=BARE,
            given=bare_given(self._recipe),
            micro=self._recipe.batch.micro,
            out_of_memory=tuple(self._too_large),
            problem=self._problem,
            timing=_median(self.timings) if self.timings else None,
            parameters=parameter_count(self._recipe.model, vocab)["total"],
        )


def matrix_flops(device: torch.device, precision: str) -> float:
    """FLOP/s of a large matrix product in the recipe's precision: the best of five."""
    side = 8192 if device.type == "cuda" else 1024
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.randn(side, side, device=device).to(dtype)
    clock = StepClock(device)
    for _ in range(6):
        clock.mark()
        matrix @ matrix
    clock.mark()
    return 2 * side**3 / min(clock.seconds()[1:])  # without the first, which loads the kernel


def _median(timings: Sequence[Timing]) -> Timing:
    """Field by field."""
    values: dict[str, float | None] = {}
    for field in dataclasses.fields(Timing):
        known = [value for t in timings if (value := getattr(t, field.name)) is not None]
        values[field.name] = statistics.median(known) if known else None
    return Timing(**values)  # type: ignore[arg-type]
