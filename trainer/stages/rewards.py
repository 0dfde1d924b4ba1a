"""What an answer earns in `stage: reinforce`: for what it says, for its length, for its form."""

import json

from trainer.questions.patterns import SECONDS, compiled
from trainer.questions.verdict import Found
from trainer.recipe.reinforce import ReinforceSection


class Rewards:
    """The rewards of one recipe; a pure function of an answer."""

    def __init__(self, section: ReinforceSection) -> None:
        self._section = section
        pattern = section.rewards.format_regex
        self._pattern = None if pattern is None else compiled(pattern, dot_all=True)

    def of(
        self, outcome: Found, answerable: bool, text: str, tokens: int, ended: bool
    ) -> dict[str, float]:
        """What an answer earns, by what for: their sum is its reward.

        `outcome`: its verdict; `answerable`: whether its question has an answer; `tokens`: how many
        it has, the one that ends it included; `ended`: whether it came to an end of its own.
        """
        return {
            "outcome": self._of_outcome(outcome, answerable),
            "length": self._of_length(tokens),
            "format": self._of_format(text.strip(), ended),
        }

    def _of_outcome(self, outcome: Found, answerable: bool) -> float:
        rewards = self._section.rewards
        if outcome == "declined" and not answerable:
            return rewards.declined_unknowable
        earned: float = getattr(rewards, outcome)
        return earned

    def _of_length(self, tokens: int) -> float:
        """The soft overlong punishment (DAPO, arXiv:2503.14476, equation 13), weighted."""
        section = self._section
        target = section.rewards.length_target
        if target is None or tokens <= target:
            return 0.0
        return section.rewards.length_weight * max(
            (target - tokens) / (section.tokens - target), -1.0
        )

    def _of_format(self, text: str, ended: bool) -> float:
        rewards = self._section.rewards
        if not rewards.asks_form or (rewards.format_ended and not ended):
            return 0.0
        if not self._matches(text):
            return 0.0
        if rewards.format_json and not _is_json(text):
            return 0.0
        return rewards.format_weight

    def _matches(self, text: str) -> bool:
        """Whether the whole text matches the pattern, if any, within the time that a match has."""
        if self._pattern is None:
            return True
        try:
            return self._pattern.fullmatch(text, timeout=SECONDS) is not None
        except TimeoutError:
            return False


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):  # nested without end
        return False
    return True
