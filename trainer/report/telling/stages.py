"""What a run's stage is for, and which curves tell how it went."""

from trainer.report.reading.run_record import RunRecord
from trainer.report.telling.curves import CurvePlot

STAGE_CURVES = (
    CurvePlot(
        "What is minimised",
        "nats a token learned from",
        (("pretrain/objective", "objective"), ("sft/objective", "objective")),
        caption="The loss with its terms and weights (`loss.*`); the loss above is without them.",
    ),
    CurvePlot(
        "Rewards of the better and the worse answer",
        "implicit reward",
        (
            ("preference/reward_chosen", "chosen"),
            ("preference/reward_rejected", "rejected"),
            ("preference/reward_margin", "margin"),
        ),
        caption="The margin between the two is what this stage widens.",
    ),
    CurvePlot(
        "Pairs in which the better answer has the higher reward",
        "share of pairs",
        (("preference/reward_accuracy", "training"), ("eval/reward_accuracy", "validation")),
        caption="0.5 is chance.",
    ),
    CurvePlot(
        "Log-probability of the answers",
        "nats an answer",
        (
            ("preference/log_probability_chosen", "chosen"),
            ("preference/log_probability_rejected", "rejected"),
        ),
    ),
    CurvePlot(
        "Loss of the better answer as text",
        "nats a token",
        (("preference/nll", "training"), ("eval/nll", "validation")),
    ),
    CurvePlot("Distance from the reference", "KL, nats", (("preference/kl", "KL"),)),
    CurvePlot(
        "Reward of an answer",
        "mean of a step's answers",
        (
            ("reinforce/reward", "all"),
            ("reinforce/outcome_reward", "outcome"),
            ("reinforce/length_reward", "length"),
            ("reinforce/format_reward", "format"),
        ),
        caption="The whole reward and its parts.",
    ),
    CurvePlot(
        "What becomes of the answers",
        "share of a step's answers",
        (
            ("reinforce/right", "right"),
            ("reinforce/declined", "declined"),
            ("reinforce/wrong", "wrong"),
        ),
    ),
    CurvePlot(
        "Answers by kind of question",
        "share of such questions",
        (
            ("reinforce/knowable_right", "answerable: right"),
            ("reinforce/knowable_declined", "answerable: declined"),
            ("reinforce/unknowable_declined", "unanswerable: declined"),
        ),
    ),
    CurvePlot("Distance from the frozen base", "KL, nats a token", (("reinforce/kl", "KL"),)),
    CurvePlot("Entropy", "nats a token", (("reinforce/entropy", "entropy"),)),
    CurvePlot(
        "Length of the answers", "tokens an answer", (("reinforce/answer_tokens", "tokens"),)
    ),
    CurvePlot(
        "Clipped ratios",
        "share of tokens",
        (("reinforce/clipped_low", "below"), ("reinforce/clipped_high", "above")),
    ),
    CurvePlot(
        "What teaches nothing",
        "share",
        (
            ("reinforce/constant_groups", "groups of one reward"),
            ("reinforce/truncated", "answers cut short"),
        ),
    ),
)
"""Drawn of a run that has any of the values: a stage's names are its own."""


def purpose_of(record: RunRecord) -> str:
    """What its stage is for, in a clause."""
    if record.merge is not None:
        return "Is the weighted mean of models, and was not trained"
    traits = record.traits
    return "Is of a stage that this version cannot read" if traits is None else traits.purpose


def loss_unit(record: RunRecord) -> str:
    """What the loss of a run is in."""
    traits = record.traits
    return "loss" if traits is None or record.recipe is None else traits.loss(record.recipe)
