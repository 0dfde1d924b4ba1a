"""Which source of a mixture gives each sequence, as weights change by phase and sources end."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.data.order import Mixture
from trainer.errors import DataError, RecipeError

if TYPE_CHECKING:
    from trainer.recipe import Recipe


@dataclass(frozen=True)
class Phase:
    """A phase of the curriculum: one weight a source, from sequence `first` of the stream (from 0).

    A source of weight 0 is not read during the phase.
    """

    first: int
    weights: tuple[float, ...]

    def shares(self, ended: Sequence[bool]) -> list[float]:
        """The share of sequences due to each source, 0 to 1; 0 for the sources that have ended."""
        kept = [0.0 if over else w for w, over in zip(self.weights, ended, strict=True)]
        total = math.fsum(kept)
        return [weight / total if total else 0.0 for weight in kept]


def phases_of(
    weights: Sequence[float], curriculum: Sequence[tuple[int, Sequence[float]]] = ()
) -> list[Phase]:
    """The phases of a mixture: its own weights, then those of the curriculum, (first, weights).

    Raises RecipeError for weights that are negative, not finite or all 0, and for phases that are
    not in ascending order.
    """
    Mixture(weights)
    stages = [Phase(0, tuple(weights))]
    for first, changed in curriculum:
        assert len(changed) == len(weights), "a stage weighs every source"
        if not all(math.isfinite(weight) and weight >= 0 for weight in changed) or not any(changed):
            raise RecipeError(
                f"data.curriculum has weights {list(changed)}: give numbers of 0 or more, and one"
                " above 0"
            )
        if first < 0 or (len(stages) > 1 and first <= stages[-1].first):
            raise RecipeError(
                f"data.curriculum has a stage at sequence {first} after one at {stages[-1].first}:"
                " put the stages in ascending order"
            )
        stages.append(Phase(first, tuple(changed)))
    return stages[1:] if len(stages) > 1 and stages[1].first == 0 else stages


def phases_of_recipe(recipe: "Recipe") -> list[Phase]:
    """The phases of a recipe's mixture; the recipe's own corpus is a mixture of one."""
    weights = [source.weight for source in recipe.data.mixture] or [1.0]
    return phases_of(weights, recipe.data.stage_weights(recipe.batch.sequences))


def phase_at(stages: Sequence[Phase], sequence: int) -> int:
    """The index of the phase in which the stream's sequence `sequence` lies."""
    return max(number for number, stage in enumerate(stages) if stage.first <= sequence)


@dataclass(frozen=True)
class MixtureState:
    """How far a mixture has been read. Lists have one entry a source.

    `border`: the sequence from which shares are currently counted; `taken`: sequences given since
    the beginning; `since`: those given since `border`; `ended`: the sequence from which a source is
    left out, or None; `weights`: those that `since` was counted under (None: assume the present
    ones).
    """

    border: int
    taken: list[int]
    since: list[int]
    ended: list[int | None]
    weights: Sequence[float] | None = None

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> "MixtureState":
        """Parse a stream's saved state; raises KeyError, TypeError, ... where it is damaged.

        A state saved before phases and ends existed has counted from the beginning.
        """
        sources = state["sources"]
        ends = [saved.get("ended") for saved in sources]
        weights = [saved.get("weight") for saved in sources]
        return cls(
            border=int(state.get("border", 0)),
            taken=[int(saved["taken"]) for saved in sources],
            since=[int(saved.get("since", saved["taken"])) for saved in sources],
            ended=[None if end is None else int(end) for end in ends],
            weights=None if None in weights else [float(weight) for weight in weights],
        )


class SourceSchedule:
    """Decides which source gives the next sequence, through the phases `stages`.

    Where a phase begins or a source ends, shares are counted afresh among the remaining sources. So
    what comes next depends only on the counts since that `border`, and on which sources have ended.
    """

    def __init__(self, stages: Sequence[Phase]):
        self._stages = stages
        sources = len(stages[0].weights)
        self.sequences = 0
        self.taken = [0] * sources
        self.ended: list[int | None] = [None] * sources
        self._begin(0, [0] * sources)

    def counts(self) -> MixtureState:
        """The state to save, which `load` resumes from."""
        since = [0] * len(self.taken)
        for source, count in zip(self._active, self._mixture.taken, strict=True):
            since[source] = count
        weights = self._stage.weights
        return MixtureState(self._border, list(self.taken), since, list(self.ended), weights)

    def load(self, counts: MixtureState) -> None:
        """Resume from saved counts; raises DataError where they do not add up."""
        since, taken, sequences = counts.since, counts.taken, sum(counts.taken)
        given = all(0 <= new <= all_ for new, all_ in zip(since, taken, strict=True))
        if not given or counts.border < 0 or sum(since) != sequences - counts.border:
            raise DataError("the saved position in the data is damaged: its counts do not add up")
        self.sequences, self.taken, self.ended = sequences, list(taken), list(counts.ended)
        self._begin(counts.border, since)
        # Counts made under other weights would make sources catch up on what they were never due.
        if counts.weights is not None and tuple(counts.weights) != self._stage.weights:
            self._begin(sequences, [0] * len(taken))

    def peek(self) -> int:
        """The index of the source of the next sequence; DataError where all sources have ended."""
        if not self._active:
            raise DataError(self._why_over())
        return self._active[self._mixture.peek()]

    def take(self) -> int:
        """The index of the source of the next sequence, which is counted as given."""
        source = self.peek()
        self._mixture.take()
        self.taken[source] += 1
        self.sequences += 1
        if self.sequences >= self._until:
            self._begin(self.sequences, [0] * len(self.taken))
        return source

    def end(self, source: int) -> None:
        """Record that a source has ended: it is left out from the next sequence on."""
        self.ended[source] = self.sequences
        self._begin(self.sequences, [0] * len(self.taken))

    def _begin(self, border: int, since: Sequence[int]) -> None:
        """Count shares from `border` on, with the weights of the next sequence's phase.

        `since`: what each source has given since `border`.
        """
        number = phase_at(self._stages, self.sequences)
        self._stage = stage = self._stages[number]
        later = self._stages[number + 1 : number + 2]
        self._until: float = later[0].first if later else math.inf
        self._active = [
            source
            for source, weight in enumerate(stage.weights)
            if weight > 0 and self.ended[source] is None
        ]
        # After a change of the recipe, a saved border may lie before the phase, or counts may
        # include a source that is inactive now.
        if border < stage.first or any(
            count for source, count in enumerate(since) if source not in self._active
        ):
            border, since = self.sequences, [0] * len(since)
        self._border = border
        self._mixture = Mixture(
            [stage.weights[source] for source in self._active],
            [since[source] for source in self._active],
        )

    def _why_over(self) -> str:
        stage = self._stage
        waiting = any(over is None for over in self.ended)
        mend = (
            "give a corpus that is left some weight in this stage of data.curriculum, raise epochs,"
            if waiting
            else "raise data.mixture's epochs, add a corpus,"
        )
        where = f" since the stage at sequence {stage.first}" if waiting else ""
        return (
            f"the data ends at sequence {self.sequences}: every corpus{where} has been read as"
            f" often as its epochs allow; {mend} or lower steps to {self.sequences} /"
            " batch.sequences, rounded down"
        )


def realised_shares(state: dict[str, Any], names: Sequence[str]) -> dict[str, float]:
    """`mixture/NAME`: the share of all sequences so far that each source has given.

    `names`: one a source; `state`: the stream's, after at least one sequence. Empty where there is
    only one source.
    """
    if len(names) < 2:
        return {}
    return {
        f"mixture/{name}": source["taken"] / state["sequences"]
        for name, source in zip(names, state["sources"], strict=True)
    }


def changes_of_shares(
    stages: Sequence[Phase],
    names: Sequence[str],
    before: dict[str, Any] | None,
    after: dict[str, Any],
) -> list[str]:
    """Log lines for the sources that ended and the phase that began between two stream states.

    `names`: one a source; `before`: None at the beginning of a run. Changes that `before` contains
    already are not reported again, so a resumed run does not repeat them.
    """
    ended_after = [source.get("ended") for source in after["sources"]]
    ended_before = [s.get("ended") for s in before["sources"]] if before else [None] * len(names)
    lines = [
        f"{name} is read to its end and left out from sequence {ended} on"
        for name, ended, known in zip(names, ended_after, ended_before, strict=True)
        if ended is not None and known is None
    ]
    number = phase_at(stages, after["sequences"])
    if number != phase_at(stages, before["sequences"] if before else 0):
        lines.append(f"new weights hold from sequence {stages[number].first} on")
    if lines:
        shares = stages[number].shares([ended is not None for ended in ended_after])
        left = ", ".join(
            f"{name} {share:.4f}" for name, share in zip(names, shares, strict=True) if share
        )
        lines[-1] += f"; the shares are now {left}" if left else "; no corpus is left"
    return lines
