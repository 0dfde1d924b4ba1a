"""What `stage: preference` minimises: losses over pairs of answers, and over judged answers."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.recipe.fine_tuning import PreferenceSection

SURE = -1e-7
"""Upper bound of orpo's mean log-probability a token: odds are infinite at 0."""

LossesAndFigures = tuple[Tensor, dict[str, Tensor]]
"""Losses, and metrics of each pair or example, detached; all fp32 [pairs] or [examples]."""

PAIR_FIGURES = (
    *("reward_chosen", "reward_rejected", "reward_margin", "reward_accuracy"),
    *("log_probability_chosen", "log_probability_rejected", "nll"),
)
JUDGED_FIGURES = (
    *("good", "reward_chosen", "reward_rejected", "reward_accuracy"),
    *("log_probability_chosen", "log_probability_rejected", "kl"),
)
"""What `judged_losses` reports."""


def pair_figures(section: PreferenceSection) -> tuple[str, ...]:
    """The names of `pair_losses`' metrics."""
    return (*PAIR_FIGURES, "kl") if section.needs_reference else PAIR_FIGURES


def pair_losses(
    section: PreferenceSection, policy: Tensor, tokens: Tensor, reference: Tensor | None
) -> LossesAndFigures:
    """The loss of each pair, [pairs], to be added up and divided by the global number of pairs.

    `policy` fp32, `tokens` and `reference` (None where the loss needs none): [pairs, 2], chosen
    then rejected: the log-probability of an answer (nats, summed over its tokens), how many tokens
    it has, and the reference's log-probability. `section.loss` is any but kto.

    Reported, [pairs] each: `reward_chosen`, `reward_rejected` (beta x what the loss compares: the
    log-ratio to the reference for dpo and ipo, nats a token for orpo and simpo), `reward_margin`,
    `reward_accuracy` (1 where the chosen answer's reward is greater), `log_probability_chosen`,
    `log_probability_rejected` (sums), `nll` (nats a token of the chosen answer), and with a
    reference `kl`: policy less reference, mean of both answers. That estimates the KL divergence
    only as far as the model would write the data's answers itself: it may well be negative.
    """
    means = policy / tokens.clamp(min=1)
    nll = -means[:, 0]
    if section.needs_reference:
        assert reference is not None, f"{section.loss} compares with a reference"
        compared = policy - reference
        if section.length_normalised:
            compared = compared / tokens.clamp(min=1)
    else:
        compared = means
    losses = _PAIRED[section.loss](section, compared)
    if section.loss == "orpo":
        losses = losses + nll
    elif section.nll_weight:
        losses = losses + section.nll_weight * nll

    rewards = section.strength * compared.detach()
    metrics = _pair_metrics(rewards, policy.detach(), nll.detach())
    if reference is not None:
        metrics["kl"] = (policy.detach() - reference).mean(dim=1)
    return losses, metrics


def dpo(section: PreferenceSection, log_ratios: Tensor) -> Tensor:
    """Direct preference optimization (arXiv:2305.18290, equation 7), [pairs].

    `log_ratios` [pairs, 2]: policy less reference. With label smoothing the conservative form
    (E. Mitchell 2023): the expected loss if that fraction of the pairs had their labels swapped.
    """
    return _preferred(section.strength * _ahead(log_ratios), section.label_smoothing)


def ipo(section: PreferenceSection, log_ratios: Tensor) -> Tensor:
    """Identity preference optimization (arXiv:2310.12036, equation 17), [pairs]; beta is its tau.

    The paper writes sums over tokens; TRL takes means for `loss_type="ipo"`, on its authors' word:
    `length_normalised` gives that.
    """
    goal = 1.0 / (2.0 * section.strength)
    return (_ahead(log_ratios) - goal).square()


def orpo(section: PreferenceSection, means: Tensor) -> Tensor:
    """The odds-ratio part of ORPO (arXiv:2403.07691, equation 7), times lambda; [pairs].

    `means` [pairs, 2]: mean log-probability a token. `pair_losses` adds the chosen answer's own
    loss a token; TRL counts the prompt's tokens in that too, we the answer's alone.
    """
    means = means.clamp(max=SURE)
    log_odds = means - torch.log(-torch.expm1(means))
    return section.strength * _preferred(_ahead(log_odds), 0.0)


def simpo(section: PreferenceSection, means: Tensor) -> Tensor:
    """SimPO (arXiv:2405.14734, equation 6), [pairs].

    `means` [pairs, 2]: mean log-probability a token.
    """
    return _preferred(section.strength * _ahead(means) - section.margin, section.label_smoothing)


_PAIRED = {"dpo": dpo, "ipo": ipo, "orpo": orpo, "simpo": simpo}


def _ahead(answers: Tensor) -> Tensor:
    return answers[:, 0] - answers[:, 1]


def _preferred(margin: Tensor, smoothing: float) -> Tensor:
    right = -F.logsigmoid(margin)
    if not smoothing:
        return right
    return (1.0 - smoothing) * right - smoothing * F.logsigmoid(-margin)


def _pair_metrics(rewards: Tensor, policy: Tensor, nll: Tensor) -> dict[str, Tensor]:
    margin = _ahead(rewards)
    accuracy = (margin > 0).to(margin.dtype)
    values = (*rewards.unbind(1), margin, accuracy, *policy.unbind(1), nll)
    return dict(zip(PAIR_FIGURES, values, strict=True))


def judged_losses(
    section: PreferenceSection, policy: Tensor, reference: Tensor, good: Tensor, baseline: Tensor
) -> LossesAndFigures:
    """KTO (arXiv:2402.01306) of each judged answer, [examples].

    To be added up and divided by the global number of examples. `policy` fp32, `reference`:
    [examples], an answer's log-probability; `good` bool [examples]; `baseline` []: the mean over
    the global batch of policy less reference of the mismatched answers. Taken as a constant, and
    as 0 where it is negative, since a KL divergence is not.

    Reported, [examples] each: `good` (1 or 0); `reward_chosen` = beta x (policy less reference) and
    `log_probability_chosen` of good answers, 0 for bad ones; their `rejected` likes, the other way
    round; `reward_accuracy`: 1 where a good answer lies above the baseline or a bad one below;
    `kl`: the baseline as it was used. Sums of these become means through `mean_metrics`.
    """
    compared = policy - reference
    divergence = baseline.detach().clamp(min=0.0)
    chosen = good.to(policy.dtype)
    rejected = 1.0 - chosen
    weight = section.desirable_weight * chosen + section.undesirable_weight * rejected
    value = section.strength * (chosen - rejected) * (compared - divergence)
    # The paper's 1 - sigmoid(value), without its cancellation.
    losses = weight * torch.sigmoid(-value)

    rewards, known = section.strength * compared.detach(), policy.detach()
    accuracy = (value.detach() > 0).to(policy.dtype)
    values = (
        *(chosen, rewards * chosen, rewards * rejected, accuracy),
        *(known * chosen, known * rejected, divergence.expand_as(policy)),
    )
    return losses, dict(zip(JUDGED_FIGURES, values, strict=True))


def mean_metrics(totals: Mapping[str, Tensor], count: Tensor) -> dict[str, Tensor]:
    """What to report of a batch, from the sums [] of its metrics over `count` pairs or examples.

    Of judged answers, a chosen metric is the mean over the good ones and a rejected metric over the
    bad ones, NaN where there are none; `reward_margin` is the difference of the two means.
    """
    good = totals.get("good")
    if good is None:
        return {name: total / count for name, total in totals.items()}
    counts = {"chosen": good, "rejected": count - good}
    means = {
        name: total / counts.get(name.rpartition("_")[2], count)
        for name, total in totals.items()
        if name != "good"
    }
    means["reward_margin"] = means["reward_chosen"] - means["reward_rejected"]
    return means
