"""What a step of `stage: reinforce` reports of the answers that it learned from."""

from collections.abc import Callable, Sequence
from math import nan

import torch

from trainer.stages.policy_losses import constant_groups
from trainer.stages.sampled_answers import SampledAnswer

SHARES: dict[str, tuple[Callable[[SampledAnswer], bool], Callable[[SampledAnswer], bool]]] = {
    "right": (lambda one: True, lambda one: one.outcome == "right"),
    "declined": (lambda one: True, lambda one: one.outcome == "declined"),
    "wrong": (lambda one: True, lambda one: one.outcome == "wrong"),
    "knowable_right": (lambda one: one.answerable, lambda one: one.outcome == "right"),
    "knowable_declined": (lambda one: one.answerable, lambda one: one.outcome == "declined"),
    "unknowable_declined": (lambda one: not one.answerable, lambda one: one.outcome == "declined"),
    "truncated": (lambda one: True, lambda one: not one.ended),
}
"""Shares of answers: of which, and those that count."""


def answer_figures(answers: Sequence[SampledAnswer], group: int) -> dict[str, float]:
    """Means over a step's answers, those to one question standing together; NaN over none.

    `reward`, and what it is made of: `outcome_reward`, `length_reward`, `format_reward`;
    `reward_spread`: the standard deviation over all; `advantage_spread`; `constant_groups`: the
    share of groups in which all answers earn the same; `answer_tokens`; and `SHARES`.
    """
    rewards = torch.tensor([one.reward for one in answers], dtype=torch.float64)
    ahead = torch.tensor([one.advantage for one in answers], dtype=torch.float64)
    figures = {
        "reward": rewards.mean().item(),
        "reward_spread": rewards.std().item(),
        "advantage_spread": ahead.std().item(),
        "constant_groups": constant_groups(rewards.view(-1, group)).double().mean().item(),
        "answer_tokens": sum(len(one.tokens) for one in answers) / len(answers),
    }
    for name in answers[0].rewards:
        figures[f"{name}_reward"] = sum(one.rewards[name] for one in answers) / len(answers)
    for name, (among, counts) in SHARES.items():
        some = [counts(one) for one in answers if among(one)]
        figures[name] = sum(some) / len(some) if some else nan
    return figures
