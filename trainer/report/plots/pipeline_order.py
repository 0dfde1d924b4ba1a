"""The order in which a pipeline's stages work, and when, if only the work took time.

The order is megatron-core's: 1F1B, and interleaved 1F1B where a stage holds several stretches of
layers. Sources: Narayanan et al., "Memory-Efficient Pipeline-Parallel DNN Training", 2021, and
"Efficient Large-Scale Language Model Training on GPU Clusters Using Megatron-LM", 2021.
"""

from dataclasses import dataclass

FORWARD, BACKWARD = 1, 2
"""Units of time of a pass through one stretch of layers: a backward is two forwards of work."""


@dataclass(frozen=True)
class StagePass:
    """A micro-batch's way through one stretch of a stage's layers; all numbers from 0."""

    micro_batch: int
    stretch: int
    backward: bool

    @property
    def units(self) -> int:
        """How long it takes."""
        return BACKWARD if self.backward else FORWARD


TimedPass = tuple[int, StagePass]
"""When it begins, in units of time, and the pass."""


def stage_order(stage: int, pipeline: int, virtual: int, micro_batches: int) -> list[StagePass]:
    """The passes of a stage, in order.

    ValueError where the interleaved schedule does not take that many micro-batches.
    """
    if min(pipeline, virtual, micro_batches) < 1:
        raise ValueError("pipeline, virtual and micro-batches are 1 and more")
    if virtual > 1 and (pipeline == 1 or micro_batches % pipeline):
        raise ValueError(
            f"the interleaved schedule wants micro-batches in multiples of a pipeline above 1, not "
            f"{micro_batches} of {pipeline}"
        )
    group = pipeline if virtual > 1 else micro_batches
    turns = [
        (micro_batch, stretch)
        for first in range(0, micro_batches, group)
        for stretch in range(virtual)
        for micro_batch in range(first, first + group)
    ]
    ahead = pipeline - stage - 1
    ahead = min(len(turns), ahead if virtual == 1 else 2 * ahead + (virtual - 1) * pipeline)
    forwards = [StagePass(*turn, backward=False) for turn in turns]
    backwards = [StagePass(one, virtual - 1 - stretch, backward=True) for one, stretch in turns]
    order = forwards[:ahead]
    for forward, backward in zip(forwards[ahead:], backwards, strict=False):
        order += [forward, backward]
    return order + backwards[len(turns) - ahead :]


def timetable(pipeline: int, virtual: int, micro_batches: int) -> list[list[TimedPass]]:
    """Of each stage its passes, each begun as soon as the stage and what it needs are ready.

    Exchanges between stages cost nothing.
    """
    orders = [stage_order(stage, pipeline, virtual, micro_batches) for stage in range(pipeline)]
    done: dict[tuple[int, int, bool], int] = {}
    table: list[list[TimedPass]] = [[] for _ in orders]
    free = [0] * pipeline
    last = pipeline * virtual - 1
    progress = True
    while progress:
        progress = False
        for stage, order in enumerate(orders):
            while len(table[stage]) < len(order):
                one = order[len(table[stage])]
                place = one.stretch * pipeline + stage
                needed = (one.micro_batch, place + (1 if one.backward else -1), one.backward)
                at_end = place == (last if one.backward else 0)
                if not at_end and needed not in done:
                    break
                start = max(free[stage], 0 if at_end else done[needed])
                table[stage].append((start, one))
                free[stage] = start + one.units
                done[one.micro_batch, place, one.backward] = free[stage]
                progress = True
    assert all(len(a) == len(b) for a, b in zip(table, orders, strict=True)), (
        "no stage waits forever"
    )
    return table


def duration(table: list[list[TimedPass]]) -> int:
    """Units of time from the first pass to the end of the last."""
    return max(start + one.units for passes in table for start, one in passes)


def bubble_share(pipeline: int, virtual: int, micro_batches: int) -> float:
    """The share of the stages' time in which they wait, exchanges costing nothing."""
    whole = shorter(pipeline, micro_batches)
    work = virtual * (FORWARD + BACKWARD)
    # Once the pipeline is full, a further micro-batch adds its work alone.
    time = duration(timetable(pipeline, virtual, whole)) + (micro_batches - whole) * work
    return 1 - micro_batches * work / time


def shorter(pipeline: int, micro_batches: int) -> int:
    """Micro-batches whose schedule begins and ends as that of so many; as many, if they are few."""
    enough = 6 * pipeline + 64
    if micro_batches <= enough + pipeline:
        return micro_batches
    return enough + (micro_batches - enough) % pipeline
