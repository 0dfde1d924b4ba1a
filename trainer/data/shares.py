"""What a mixture has given, for the metrics and the log, from the states of its stream."""

from collections.abc import Sequence
from typing import Any

from trainer.data.mixture import Stage, stage_at


def realised_shares(state: dict[str, Any], names: Sequence[str]) -> dict[str, float]:
    """`mixture/NAME`: the share of all sequences so far that each source has given.

    `state` is the stream's, after at least one sequence. Empty where there is one source.
    """
    if len(names) < 2:
        return {}
    return {
        f"mixture/{name}": source["taken"] / state["sequences"]
        for name, source in zip(names, state["sources"], strict=True)
    }


def changes_of_shares(
    stages: Sequence[Stage],
    names: Sequence[str],
    before: dict[str, Any] | None,
    after: dict[str, Any],
) -> list[str]:
    """A line for each source that ended and each stage that began between two stream states.

    `before` is None at the beginning. What a state knows already is not told again after a resume.
    """
    ended_after = [source.get("ended") for source in after["sources"]]
    ended_before = [s.get("ended") for s in before["sources"]] if before else [None] * len(names)
    lines = [
        f"{name} is read to its end and left out from sequence {ended} on"
        for name, ended, known in zip(names, ended_after, ended_before, strict=True)
        if ended is not None and known is None
    ]
    number = stage_at(stages, after["sequences"])
    if number != stage_at(stages, before["sequences"] if before else 0):
        lines.append(f"new weights hold from sequence {stages[number].first} on")
    if lines:
        shares = stages[number].shares([ended is not None for ended in ended_after])
        left = ", ".join(
            f"{name} {share:.4f}" for name, share in zip(names, shares, strict=True) if share
        )
        lines[-1] += f"; the shares are now {left}" if left else "; no corpus is left"
    return lines
