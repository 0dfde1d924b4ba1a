"""Preference losses against the papers' formulas, their derivatives, and at their extremes."""

import math

import pytest
import torch
from torch import Tensor

from trainer.recipe.fine_tuning import PreferenceSection
from trainer.stages.preference_losses import (
    JUDGED_FIGURES,
    judged_losses,
    mean_metrics,
    pair_figures,
    pair_losses,
)

PAIRED = ("dpo", "ipo", "orpo", "simpo")

POLICY = torch.tensor([[-12.0, -15.0], [-30.0, -8.0]])
TOKENS = torch.tensor([[6, 5], [10, 4]])
REFERENCE = torch.tensor([[-14.0, -14.5], [-29.0, -10.0]])


def reported(totals: dict[str, torch.Tensor], count: int) -> dict[str, float]:
    """The means of these sums, without those of nothing, as a run reports them."""
    means = mean_metrics(totals, torch.tensor(float(count)))
    return {name: mean.item() for name, mean in means.items() if not mean.isnan()}


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def by_hand(section: PreferenceSection, pair: int) -> float:
    """The papers' formulas with Python's numbers."""
    chosen, rejected = POLICY[pair].tolist()
    of_chosen, of_rejected = TOKENS[pair].tolist()
    ratios = [chosen - REFERENCE[pair, 0].item(), rejected - REFERENCE[pair, 1].item()]
    if section.length_normalised:
        ratios = [ratios[0] / of_chosen, ratios[1] / of_rejected]
    means = [chosen / of_chosen, rejected / of_rejected]
    beta = section.strength
    if section.loss == "ipo":
        loss = (ratios[0] - ratios[1] - 1 / (2 * beta)) ** 2
    elif section.loss == "orpo":
        odds = [math.exp(mean) / (1 - math.exp(mean)) for mean in means]
        loss = -means[0] - beta * math.log(sigmoid(math.log(odds[0] / odds[1])))
    else:
        margin = beta * (ratios[0] - ratios[1])
        if section.loss == "simpo":
            margin = beta * means[0] - beta * means[1] - section.margin
        wrong = section.label_smoothing
        loss = -(1 - wrong) * math.log(sigmoid(margin)) - wrong * math.log(sigmoid(-margin))
    return loss - section.nll_weight * means[0]


@pytest.mark.parametrize(
    "keys",
    [
        {"loss": "dpo"},
        {"loss": "dpo", "beta": 0.7, "label_smoothing": 0.2},
        {"loss": "dpo", "length_normalised": True, "nll_weight": 0.4},
        {"loss": "ipo", "beta": 0.3},
        {"loss": "ipo", "length_normalised": True},
        {"loss": "orpo"},
        {"loss": "orpo", "beta": 0.9},
        {"loss": "simpo"},
        {"loss": "simpo", "beta": 1.5, "margin": 0.9, "label_smoothing": 0.1, "nll_weight": 0.2},
    ],
)
def test_losses_over_pairs_are_those_of_the_papers(keys: dict[str, float]) -> None:
    """Catches a wrong sign, an unused key, and sums where means belong or the other way round."""
    section = PreferenceSection(**keys)
    losses, _ = pair_losses(section, POLICY, TOKENS, REFERENCE)
    assert losses.tolist() == pytest.approx([by_hand(section, 0), by_hand(section, 1)], rel=1e-5)


def test_numbers_worked_by_hand() -> None:
    """Catches the test's own formulas being wrong as the losses are."""
    dpo, _ = pair_losses(PreferenceSection(loss="dpo", beta=0.4), POLICY, TOKENS, REFERENCE)
    # Log-ratios 2 and -0.5, then -1 and 2: margins 1 and -1.2.
    assert dpo.tolist() == pytest.approx([0.3132617, 1.4632825], rel=1e-6)
    ipo, _ = pair_losses(PreferenceSection(loss="ipo", beta=0.4), POLICY, TOKENS, REFERENCE)
    assert ipo.tolist() == pytest.approx([1.5625, 18.0625])  # (2.5 - 1.25)^2, (-3 - 1.25)^2
    simpo, _ = pair_losses(PreferenceSection(loss="simpo", margin=2.0), POLICY, TOKENS, None)
    assert simpo.tolist() == pytest.approx([math.log(2), math.log1p(math.exp(4))])  # margins 0, -4


def test_metrics_of_pairs() -> None:
    """Catches rewards without beta, an accuracy the wrong way round, and kl of one answer only."""
    section = PreferenceSection(loss="dpo", beta=0.4)
    _, metrics = pair_losses(section, POLICY.clone().requires_grad_(), TOKENS, REFERENCE)
    expected = {
        "reward_chosen": [0.8, -0.4],
        "reward_rejected": [-0.2, 0.8],
        "reward_margin": [1.0, -1.2],
        "reward_accuracy": [1.0, 0.0],
        "log_probability_chosen": [-12.0, -30.0],
        "log_probability_rejected": [-15.0, -8.0],
        "nll": [2.0, 3.0],
        "kl": [0.75, 0.5],
    }
    assert metrics.keys() == expected.keys()
    for name, values in expected.items():
        assert metrics[name].tolist() == pytest.approx(values, abs=1e-6), name
        assert not metrics[name].requires_grad
    _, metrics = pair_losses(PreferenceSection(loss="simpo", beta=0.5), POLICY, TOKENS, None)
    assert metrics["reward_chosen"].tolist() == pytest.approx([-1.0, -1.5])  # nats a token
    assert "kl" not in metrics


KNOWN = torch.tensor([-10.0, -20.0, -5.0])
OF_REFERENCE = torch.tensor([-12.0, -19.0, -9.0])
GOOD = torch.tensor([True, True, False])


@pytest.mark.parametrize("baseline", [1.5, -3.0])
def test_judged_answers_have_the_loss_of_the_paper(baseline: float) -> None:
    """Catches swapped weights, and a baseline that is not held at 0 or above."""
    section = PreferenceSection(loss="kto", beta=0.3, desirable_weight=1.3, undesirable_weight=0.6)
    losses, metrics = judged_losses(section, KNOWN, OF_REFERENCE, GOOD, torch.tensor(baseline))
    held = max(baseline, 0.0)
    expected = [
        1.3 * (1 - sigmoid(0.3 * (2.0 - held))),
        1.3 * (1 - sigmoid(0.3 * (-1.0 - held))),
        0.6 * (1 - sigmoid(0.3 * (held - 4.0))),
    ]
    assert losses.tolist() == pytest.approx(expected, rel=1e-6)
    assert metrics["kl"].tolist() == [held] * 3


def test_the_baseline_is_a_constant() -> None:
    """Catches a gradient through KTO's divergence, which its authors do not take."""
    policy, baseline = KNOWN.clone().requires_grad_(), torch.tensor(1.5, requires_grad=True)
    losses, _ = judged_losses(PreferenceSection(loss="kto"), policy, OF_REFERENCE, GOOD, baseline)
    losses.sum().backward()
    assert baseline.grad is None
    assert policy.grad is not None and bool((policy.grad[:2] < 0).all() and policy.grad[2] > 0)


def test_judged_means_are_over_answers_of_their_kind() -> None:
    """Catches a mean reward of the good answers that depends on how many bad ones there were."""
    section = PreferenceSection(loss="kto", beta=0.3)
    _, metrics = judged_losses(section, KNOWN, OF_REFERENCE, GOOD, torch.tensor(1.5))
    means = reported({name: values.sum() for name, values in metrics.items()}, 3)
    assert means == pytest.approx(
        {
            "reward_chosen": 0.15,
            "reward_rejected": 1.2,
            "reward_margin": -1.05,
            "reward_accuracy": 1 / 3,
            "log_probability_chosen": -15.0,
            "log_probability_rejected": -5.0,
            "kl": 1.5,
        },
        rel=1e-5,
    )


def test_means_without_bad_answers_leave_their_metrics_out() -> None:
    """Catches a division by the wrong answers, or a margin against nothing."""
    sums = {"good": 2.0, "reward_chosen": 3.0, "reward_rejected": 0.0, "kl": 1.0}
    assert reported({name: torch.tensor(total) for name, total in sums.items()}, 2) == {
        "reward_chosen": 1.5,
        "kl": 0.5,
    }
    assert reported({"nll": torch.tensor(3.0)}, 2) == {"nll": 1.5}


@pytest.mark.parametrize("loss", PAIRED)
@pytest.mark.parametrize("normalised", [False, True])
def test_gradients_over_pairs_are_the_derivatives(loss: str, normalised: bool) -> None:
    """Catches part of a loss detached, or a derivative of an odds ratio gone wrong."""
    smoothing = 0.1 if loss in ("dpo", "simpo") else 0.0
    section = PreferenceSection(
        loss=loss, length_normalised=normalised, label_smoothing=smoothing, nll_weight=0.3
    )
    policy = POLICY.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda own: pair_losses(section, own, TOKENS, REFERENCE.double())[0], policy
    )


def test_gradients_of_judged_answers_are_the_derivatives() -> None:
    """Catches part of KTO's loss detached."""
    section, baseline = PreferenceSection(loss="kto"), torch.tensor(0.7, dtype=torch.float64)
    reference = OF_REFERENCE.double()
    assert torch.autograd.gradcheck(
        lambda own: judged_losses(section, own, reference, GOOD, baseline)[0],
        KNOWN.double().requires_grad_(),
    )


def finite(losses: Tensor, policy: Tensor) -> bool:
    losses.sum().backward()
    assert policy.grad is not None
    return bool(losses.isfinite().all() and policy.grad.isfinite().all())


@pytest.mark.parametrize("loss", PAIRED)
def test_extreme_pairs_keep_losses_and_gradients_finite(loss: str) -> None:
    """Catches an exponential that overflows, and the infinite odds of an answer that is certain."""
    smoothing = 0.1 if loss in ("dpo", "simpo") else 0.0
    section = PreferenceSection(loss=loss, label_smoothing=smoothing)
    policy = torch.tensor([[-1e4, -1.0], [-1.0, -1e4], [0.0, -3.0], [-3.0, 0.0], [0.0, 0.0]])
    policy = torch.cat((policy, policy * 1e-9)).requires_grad_()
    tokens = torch.tensor([[1, 2]]).expand(len(policy), 2)
    losses, metrics = pair_losses(section, policy, tokens, torch.zeros(len(policy), 2))
    assert finite(losses, policy)
    assert all(values.isfinite().all() for values in metrics.values())


def test_extreme_judged_answers_keep_losses_and_gradients_finite() -> None:
    """Catches an exponential that overflows."""
    policy = torch.tensor([-1e4, 1e4, -1e4, 1e4], requires_grad=True)
    good = torch.tensor([True, True, False, False])
    section = PreferenceSection(loss="kto", beta=1.0)
    losses, _ = judged_losses(section, policy, torch.zeros(4), good, torch.tensor(1e4))
    assert losses.tolist() == [1.0, 0.5, 0.0, 0.5]
    assert finite(losses, policy)


@pytest.mark.parametrize("loss", [*PAIRED, "kto"])
def test_rows_without_answers_give_no_losses_and_the_same_figures(loss: str) -> None:
    """Catches a micro-batch of padding alone that stops the run, or ranks that report otherwise."""
    section = PreferenceSection(loss=loss)
    policy = torch.zeros(0, requires_grad=True)
    if loss == "kto":
        names, nothing = JUDGED_FIGURES, torch.zeros(0)
        losses, metrics = judged_losses(section, policy, nothing, nothing.bool(), torch.tensor(1.0))
    else:
        names, pairs = pair_figures(section), policy.view(-1, 2)
        reference = torch.zeros(0, 2) if section.needs_reference else None
        losses, metrics = pair_losses(section, pairs, torch.zeros(0, 2), reference)
    assert tuple(metrics) == names
    assert losses.shape == (0,)
    losses.sum().backward()
    assert policy.grad is not None


def test_an_answer_without_tokens_divides_by_nothing() -> None:
    """Catches NaN in a batch, for the sake of one empty answer."""
    section = PreferenceSection(loss="simpo")
    losses, _ = pair_losses(section, torch.tensor([[0.0, -1.0]]), torch.tensor([[0, 3]]), None)
    assert losses.isfinite().all()


@pytest.mark.parametrize("loss", ["dpo", "simpo"])
def test_smoothing_of_half_the_pairs_would_be_symmetric(loss: str) -> None:
    """Catches a smoothing that is not the loss of the swapped pair: at s the pair counts 1 - s."""
    swapped = POLICY.flip(1), TOKENS.flip(1), REFERENCE.flip(1)
    hard = PreferenceSection(loss=loss, margin=0.0)
    soft = PreferenceSection(loss=loss, margin=0.0, label_smoothing=0.3)
    right = pair_losses(hard, POLICY, TOKENS, REFERENCE)[0]
    wrong = pair_losses(hard, *swapped)[0]
    torch.testing.assert_close(
        pair_losses(soft, POLICY, TOKENS, REFERENCE)[0], 0.7 * right + 0.3 * wrong
    )
    torch.testing.assert_close(pair_losses(soft, *swapped)[0], 0.3 * right + 0.7 * wrong)


def test_equal_sides_lose_what_the_margin_asks() -> None:
    """Catches a margin multiplied by beta (or divided by it), and one added, not taken off."""
    section = PreferenceSection(loss="simpo", beta=2.5, margin=1.2)
    policy, tokens = torch.tensor([[-6.0, -3.0]]), torch.tensor([[4, 2]])
    losses, _ = pair_losses(section, policy, tokens, None)
    assert losses.item() == pytest.approx(math.log1p(math.exp(1.2)))


@pytest.mark.parametrize("normalised", [False, True])
def test_ipo_is_least_where_the_chosen_is_half_of_one_over_beta_ahead(normalised: bool) -> None:
    """Catches IPO's goal at 1 / beta, or of sums where means are compared."""
    section = PreferenceSection(loss="ipo", beta=0.25, length_normalised=normalised)
    ahead = 2.0 * (4 if normalised else 1)
    policy = torch.tensor([[ahead - 9.0, -9.0]], requires_grad=True)
    losses, _ = pair_losses(section, policy, torch.tensor([[4, 4]]), torch.full((1, 2), -9.0))
    losses.sum().backward()
    assert losses.item() == 0.0
    assert policy.grad is not None and policy.grad.tolist() == [[0.0, 0.0]]


def test_a_loss_against_a_reference_is_not_computed_without_one() -> None:
    """Catches a reference taken for 0 everywhere where none was given."""
    with pytest.raises(AssertionError, match="dpo compares with a reference"):
        pair_losses(PreferenceSection(loss="dpo"), POLICY, TOKENS, None)
