"""`checkpoint` and `recovery`: what is kept, and when to give up."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainer.errors import RecipeError
from trainer.recipe.section import Count, FrozenSequence, Positive, Section

if TYPE_CHECKING:
    from trainer.recipe.recipe import Recipe


AVERAGE = "average"
"""The run directory of a run's averaged weights, in its own; and the optimizer state of them."""


class AverageSection(Section):
    """The average of the weights over steps, kept in fp32 beside the optimizer's state.

    With each checkpoint it is written to RUN/average, which is read, exported and trained from as
    any run. It takes four bytes a trained parameter, whatever it is over, shared out over replicas
    as `zero.stage` shares the optimizer's state.
    """

    kind: Literal["ema", "mean"] = "ema"
    """ema: later weights count more (`decay`); mean: those after the run's last steps (`last`)
    count alike, as of a schedule's decay."""
    decay: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.999
    """ema: what stays of the average each time that weights enter it. The first 1 / (1 - decay) of
    them count alike, so that where the run began does not stay in a short run's average."""
    last: Positive | None = None
    """mean: how many steps, up to `steps`, it is over. Before them there is none: a window that
    moves along would need a copy of the weights for each of its steps."""
    every: Positive = 1
    """Steps between weights that enter; a skipped step's do not."""

    def enters(self, step: int, steps: int) -> bool:
        """Whether the weights after step `step` of `steps` enter the average."""
        if self.kind == "mean":
            return step > self._first(steps) and (steps - step) % self.every == 0
        return step % self.every == 0

    def over(self, steps: int) -> tuple[str, float, int]:
        """What an average is of: two with other values do not continue each other."""
        return self.kind, self.decay if self.kind == "ema" else self._first(steps), self.every

    def _first(self, steps: int) -> int:
        """The step behind which a mean begins."""
        assert self.last is not None, "the recipe was checked"
        return steps - self.last


def check_average(recipe: "Recipe") -> None:
    """Raise RecipeError where `checkpoint.average` sets what its kind does not have."""
    average = recipe.checkpoint.average
    if average is None:
        return
    if average.kind == "mean" and average.last is None:
        raise RecipeError("checkpoint.average.last: a mean is over so many last steps; set it")
    if average.kind == "ema" and average.last is not None:
        raise RecipeError(
            "checkpoint.average.last: belongs to kind mean, and ema fades by decay; set"
            " checkpoint.average.kind=mean, or leave it out"
        )
    if average.kind == "mean" and average.decay != AverageSection().decay:
        raise RecipeError(
            "checkpoint.average.decay: belongs to kind ema, and a mean has none; leave it out"
        )
    longest = average.last or average.every
    if longest > recipe.steps:
        key = "every" if average.last is None else "last"
        raise RecipeError(
            f"checkpoint.average.{key}: {longest} are more than the run's {recipe.steps} steps;"
            " lower it"
        )
    _check_saved(recipe, average)


def _check_saved(recipe: "Recipe", average: AverageSection) -> None:
    """Refuse a mean over last steps of which none is saved: it would be kept and never written."""
    section = recipe.checkpoint
    if average.kind == "ema" or section.save_final or average.last is None:
        return
    last_saved = recipe.steps - recipe.steps % section.every if section.every else 0
    if last_saved <= recipe.steps - average.last:
        raise RecipeError(
            f"checkpoint.average.last: none of the last {average.last} steps is saved, and so their"
            " mean never is; set checkpoint.save_final=true"
        )


class CheckpointSection(Section):
    """When checkpoints are written and how many stay."""

    every: Count = 0
    """Steps between checkpoints; 0: only at the end and on a stop."""
    keep: Count = 3
    """The newest that stay; 0: all."""
    keep_every: Count = 0
    """Milestones, which stay whatever `keep` says: those after each such number of steps; 0: none.
    A multiple of `every`."""
    background: bool = True
    """Whether training goes on while a checkpoint is written: its values are copied to host memory
    first, which takes as much of it as the checkpoint has bytes. The last one is waited for."""
    save_final: bool = True
    """Whether the last step is saved."""
    local: Annotated[str, Field(min_length=1)] | None = None
    """A folder on each machine's own disk, to which a checkpoint is written before it is to the run
    directory: what a slow or full one does not get, the next start brings there. It takes up to
    twice what a machine's ranks save. None: host memory is all that lies between."""
    copy_to: Annotated[str, Field(min_length=1)] | None = None
    """A folder, or s3://BUCKET/PREFIX, to which each good checkpoint is copied, as
    COPY_TO/NAME-OF-RUN/checkpoints/step-N, and verified; a copy that fails ends no run. Copies are
    not rotated away. None: there are none."""
    best: str | None = None
    """The figure by which RUN/checkpoints/best is chosen: eval/loss (of evaluate.every) or
    eval/SUITE/FIGURE (of evaluate.suites). It is a link to the checkpoint of the best evaluation so
    far that passes every gate of evaluate.gates; that step is saved, and stays whatever `keep`
    says. One by other items, or by an older version of its suite, stays the best of a resumed run
    until another is promoted, which is not compared with it. None: there is no best."""
    average: AverageSection | None = None
    """An average of the weights that is kept beside them, as {kind: ema, decay: 0.999}, or
    {kind: mean, last: 200}; none: none is."""


_MOST_LEFT_OUT = 100
"""Times its own steps that a run may leave out at once: all of it is passed over one by one."""


class LeftOutSection(Section):
    """Data that a run does not read: some global batches of its order, before one of its steps."""

    before: Positive
    """The step, from 1."""
    batches: Positive
    """How many."""


class RecoverySection(Section):
    """What happens when something goes wrong: who is given up, when, and what is begun again."""

    skipped_in_a_row: Positive = 5
    """Steps skipped one after another, as their loss or gradient is not finite, that end the run
    with exit code 4."""
    restarts: Count = 0
    """How often at most `lyceum train` starts its ranks again from the last good checkpoint, where
    one was killed, froze, ran out of memory or failed by a fault. 0: it ends with exit code 4."""
    minimum_replicas: Positive | None = None
    """How few replicas of the model the run may go on with where a node or a device is lost: as
    many train as there is room for and batch.sequences can be shared by, each with more
    micro-batches, and the rest stand by. None: the ranks that there are, or none."""
    patience: Annotated[float, Field(ge=1.0)] = 20.0
    """A rank is frozen when no rank has made progress for so many median steps, and for
    `patience_seconds`; it is named with its stack, and the run ends (or restarts)."""
    patience_seconds: Annotated[float, Field(gt=0.0)] = 60.0
    """The least time before a rank is frozen; five times as much in a first step, in waiting for
    data, in evaluation and saving, where it must also use no CPU time. Before the first step only
    a stopped process is frozen."""
    slow_factor: Annotated[float, Field(gt=1.0)] = 2.0
    """A rank that works so many times as much of its time as the median of the others, while they
    wait for it, is named in metrics.jsonl (`slow_rank`, `slow_factor`) and in the log; on CPUs."""
    settle: Count = 1
    """Steps behind a checkpoint that must have been applied before it counts as good, which a
    resume looks for: 0: at once. The last one of a run or of a stop is good at once, where its own
    step was applied."""
    spike: Annotated[float, Field(gt=0.0)] | None = None
    """A step whose loss or gradient norm lies so many standard deviations above the mean of the
    last `spike_window` steps takes the run back to its last good checkpoint; the data from there to
    that step is left out, and its documents are named. None: nothing is taken back."""
    spike_window: Annotated[int, Field(ge=2)] = 100
    """Applied steps over which mean and deviation are taken; before so many nothing is judged."""
    rollbacks: Positive = 10
    """How often a run goes back at most; the spike after that ends it with exit code 4."""
    leave_out: Annotated[tuple[LeftOutSection, ...], FrozenSequence] = ()
    """Data that is not read, as [{before: 101, batches: 20}]: that many global batches of the
    data's order, beside what was decided for a spike (RUN/rollbacks.json)."""


def check_spikes(recipe: "Recipe") -> None:
    """Raise RecipeError where a spike could never be seen, or nothing be gone back to."""
    section = recipe.recovery
    asks = recipe.stage_traits.asks
    if section.leave_out and asks:
        raise RecipeError(
            f"recovery.leave_out: stage {recipe.stage} makes its own data; leave it out"
        )
    late = [one.before for one in section.leave_out if one.before > recipe.steps]
    if late:
        raise RecipeError(
            f"recovery.leave_out: the run has no step {late[0]}, it ends after {recipe.steps}; "
            "leave it out"
        )
    many = [one.batches for one in section.leave_out if one.batches > _MOST_LEFT_OUT * recipe.steps]
    if many:
        raise RecipeError(
            f"recovery.leave_out: {many[0]} batches are more than {_MOST_LEFT_OUT} times what the "
            f"run's {recipe.steps} steps read; lower it"
        )
    if section.spike is None:
        return
    if asks:
        raise RecipeError(
            f"recovery.spike: stage {recipe.stage} makes its own data, of which none can be left "
            "out; leave it out"
        )
    if section.spike_window >= recipe.steps:
        raise RecipeError(
            f"recovery.spike_window: no step of {recipe.steps} has {section.spike_window} steps "
            "before it to be held against; lower it"
        )
    if recipe.checkpoint.every == 0 or recipe.checkpoint.every >= recipe.steps:
        raise RecipeError(
            "recovery.spike: there is no checkpoint to go back to before the last step; set "
            "checkpoint.every"
        )


def check_recovery(recipe: "Recipe") -> None:
    """Raise RecipeError where no checkpoint before the last could ever count as good, and where the
    batch cannot be shared by as many replicas as there are to be.
    """
    least, batch = recipe.recovery.minimum_replicas, recipe.batch
    if least is not None and least > (most := batch.sequences // batch.micro):
        raise RecipeError(
            f"recovery.minimum_replicas: {least} replicas are more than batch.sequences "
            f"{batch.sequences} with batch.micro {batch.micro} can be shared by; take {most} at "
            "most"
        )
    settle, every = recipe.recovery.settle, recipe.checkpoint.every
    milestones = recipe.checkpoint.keep_every
    if milestones and (every == 0 or milestones % every):
        raise RecipeError(
            f"checkpoint.keep_every: {milestones} is no multiple of checkpoint.every {every}, and "
            "keeps nothing that is saved; give a multiple"
        )
    if 0 < every < recipe.steps <= settle:
        raise RecipeError(
            f"recovery.settle: {settle} steps behind a checkpoint are more than the run's "
            f"{recipe.steps}, and none would count as good before the last; lower it"
        )
    keep = recipe.checkpoint.keep
    if keep > 0 and every > 0 and keep * every < settle:
        raise RecipeError(
            f"recovery.settle: {settle} steps behind a checkpoint are more than the {keep * every} "
            f"after which it is removed (checkpoint.keep {keep}, every {every}), and none would "
            "count as good; lower it, or raise checkpoint.keep"
        )
