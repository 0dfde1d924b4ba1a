"""What `stage: reinforce` minimises: advantages in a group, and a loss over answers' tokens."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.cross_entropy import IGNORE
from trainer.parallel.layout import Axis
from trainer.recipe.reinforce import ReinforceSection
from trainer.stages.answers import answer_log_probabilities, sum_over_context

SMALLEST_SPREAD = 1e-4
"""Added to a standard deviation before it divides, as TRL does."""

POLICY_FIGURES = ("entropy", "kl", "ratio", "clipped_low", "clipped_high")
"""What `policy_loss` reports, sums over tokens (with `importance: sequence`, the ratio's and the
clipped ones' over answers, each of them times its tokens)."""


def advantages(rewards: Tensor, scale: str) -> Tensor:
    """How far each answer is ahead of its group: fp64 [questions, group], as `rewards`.

    A group's mean is taken off, and the rest divided by what `reinforce.scale_rewards` says, the
    standard deviation being that of a sample (n - 1), over all rewards where it is "batch". A group
    of one reward gets 0 throughout, exactly.
    """
    ahead = rewards - rewards.mean(dim=1, keepdim=True)
    ahead = torch.where(constant_groups(rewards)[:, None], 0.0, ahead)
    if scale == "none":
        return ahead
    spread = rewards.std() if scale == "batch" else rewards.std(dim=1, keepdim=True)
    return ahead / (spread + SMALLEST_SPREAD)


def constant_groups(rewards: Tensor) -> Tensor:
    """Which groups of [questions, group] have one reward alone; bool [questions]."""
    return rewards.amax(dim=1) == rewards.amin(dim=1)


@dataclass(frozen=True)
class TokenTerms:
    """What a micro-batch's loss is made of, this context rank's tokens of it.

    `policy`: fp32 [rows, sequence / context], the log-probability of each label in nats;
    `sampled`: the sampling policy's (None: the same as `policy`, without its gradient);
    `reference`: the frozen base's (None: none); `labels`, `segments`: int64 of that shape, the
    second as from `segment_ids`. Of each answer, fp32 [rows, most]: `ahead`, its advantage;
    `weights`, what each of its tokens' loss counts; `lengths`, its tokens that are learned.
    """

    policy: Tensor
    sampled: Tensor | None
    reference: Tensor | None
    labels: Tensor
    segments: Tensor
    ahead: Tensor
    weights: Tensor
    lengths: Tensor

    def of_tokens(self, answers: Tensor) -> Tensor:
        """A number of each answer, [rows, most], at each of its tokens; 0 elsewhere."""
        index = self.segments.clamp(max=answers.shape[1] - 1)
        return torch.where(self.labels != IGNORE, answers.gather(1, index), 0.0)

    def of_targets(self, tokens: Tensor) -> Tensor:
        """A number of each token, fp32 [rows, sequence / context], where it is learned; else 0."""
        return torch.where(self.labels != IGNORE, tokens, 0.0)

    def of_answers(self, tokens: Tensor, context: Axis) -> Tensor:
        """The sum over each answer's tokens, fp32 [rows, most], of all context ranks."""
        sums, _ = answer_log_probabilities(-tokens, self.labels, self.segments, self.ahead.shape[1])
        return sum_over_context(sums, context)


def policy_loss(
    section: ReinforceSection, terms: TokenTerms, context: Axis
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted loss of a micro-batch, fp32 [], to differentiate, and what to report of it.

    GRPO's surrogate (arXiv:2402.03300, equation 3): of each token -min(ratio A, clipped ratio A),
    plus beta times the k3 estimate of the divergence. What is reported is summed over this rank's
    tokens: over the context ranks, each counts once. The loss is so only with a ratio a token; with
    one an answer every context rank computes all of it, as `sum_over_context` explains, and reports
    its share.
    """
    sampled = terms.policy.detach() if terms.sampled is None else terms.sampled
    log_ratios = terms.of_targets(terms.policy - sampled)
    divergence = None
    if terms.reference is not None:
        behind = terms.of_targets(terms.reference - terms.policy)
        divergence = behind.exp() - behind - 1.0
    if section.importance == "token":
        return _of_tokens(section, terms, log_ratios, divergence)
    return _of_answers(section, terms, log_ratios, divergence, context)


def _of_tokens(
    section: ReinforceSection, terms: TokenTerms, log_ratios: Tensor, divergence: Tensor | None
) -> tuple[Tensor, dict[str, Tensor]]:
    ratio, weight = log_ratios.exp(), terms.of_tokens(terms.weights)
    losses, figures = _surrogate(section, ratio, terms.of_tokens(terms.ahead))
    figures = {name: terms.of_targets(n) for name, n in figures.items()}
    if divergence is not None:
        if section.kl_correction:
            divergence = divergence * ratio
        losses = losses + section.beta * divergence
        figures["kl"] = divergence.detach()
    total = (losses * weight).sum()
    return total, {"loss": total.detach(), **{name: n.sum() for name, n in figures.items()}}


def _of_answers(
    section: ReinforceSection,
    terms: TokenTerms,
    log_ratios: Tensor,
    divergence: Tensor | None,
    context: Axis,
) -> tuple[Tensor, dict[str, Tensor]]:
    ratio = (terms.of_answers(log_ratios, context) / terms.lengths.clamp(min=1.0)).exp()
    losses, figures = _surrogate(section, ratio, terms.ahead)
    total = (losses * terms.weights * terms.lengths).sum()
    figures = {name: n * terms.lengths for name, n in figures.items()}
    if divergence is not None:
        diverged = terms.of_answers(divergence, context)
        if section.kl_correction:
            diverged = diverged * ratio
        total = total + section.beta * (diverged * terms.weights).sum()
        figures["kl"] = diverged.detach()
    sums = {name: n.sum() / context.size for name, n in figures.items()}
    return total, {"loss": total.detach() / context.size, **sums}


def _surrogate(
    section: ReinforceSection, ratio: Tensor, ahead: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """-min(ratio A, clipped ratio A), and where it is clipped; all of the shape of `ratio`."""
    lowest, highest = 1.0 - section.clip, section.highest_ratio
    losses = -torch.min(ratio * ahead, ratio.clamp(lowest, highest) * ahead)
    known = ratio.detach()
    low, high = (known < lowest) & (ahead < 0), (known > highest) & (ahead > 0)
    figures = {"ratio": known, "clipped_low": low.float(), "clipped_high": high.float()}
    return losses, figures


def token_weights(
    section: ReinforceSection, lengths: Tensor, sampling_tokens: int, updates: int
) -> Tensor:
    """What the loss of each token of an answer counts in an update; fp64 [answers].

    `lengths`: the tokens of each answer of the update that are learned, int64 [answers];
    `sampling_tokens`: of all answers of its sampling, which serves so many `updates`.
    """
    answers = len(lengths)
    ones = torch.ones(answers, dtype=torch.float64)
    if section.loss == "grpo":
        return ones / (lengths.clamp(min=1) * answers)
    if section.loss == "dr_grpo":
        return ones / (answers * section.tokens)
    if section.loss == "bnpo":
        return ones / lengths.sum().clamp(min=1)
    return ones * updates / max(sampling_tokens, 1)
