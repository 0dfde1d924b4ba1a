"""`reinforce`: what `stage: reinforce` asks, what it rewards, and what it minimises."""

import json
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainer.errors import RecipeError
from trainer.recipe.questions import VerifierName
from trainer.recipe.section import Count, Fraction, Names, Positive, Section

if TYPE_CHECKING:
    from trainer.recipe.recipe import Recipe

NotNegative = Annotated[float, Field(ge=0.0)]
Reward = Annotated[float, Field(ge=-1e6, le=1e6)]
"""What something earns; more than a million is a slip, and far beyond it squares overflow fp32."""
RewardWeight = Annotated[float, Field(ge=0.0, le=1e6)]


class RewardsSection(Section):
    """What an answer earns: for what it says, and beside that for its length and its form."""

    right: Reward = 1.0
    """A right answer."""
    declined: Reward = 0.0
    """An answer that says it does not know, to a question that has an answer. Between -0.25 and 0.3
    works best (arXiv:2601.20126): much more, and it declines all; much less, and it guesses."""
    wrong: Reward = -1.0
    """Any other answer, to a question that nobody can answer too (with 0 for declining: the ternary
    reward of TruthRL, arXiv:2509.25760)."""
    declined_unknowable: Reward = 1.0
    """Declining a question that nobody can answer: what is right to do there, and earns as much."""
    length_target: Positive | None = None
    """Tokens from which an answer is punished: linearly, down to -1 at reinforce.tokens (the soft
    overlong punishment of DAPO, arXiv:2503.14476, equation 13); none: no length is."""
    length_weight: RewardWeight = 1.0
    """What that punishment is multiplied by."""
    format_regex: str | None = None
    """A regular expression (of the `regex` package) that the whole answer must match, spaces at its
    ends apart; a match that takes longer than a second is none."""
    format_json: bool = False
    """Whether the whole answer must be JSON."""
    format_ended: bool = False
    """Whether the answer must have come to its own end."""
    format_weight: RewardWeight = 1.0
    """What an answer earns where all that is asked of its form holds; else it earns 0 for it."""

    @property
    def asks_form(self) -> bool:
        """Whether a form is rewarded at all."""
        asked = self.format_regex is not None or self.format_json or self.format_ended
        return asked and self.format_weight > 0


class ReinforceSection(Section):
    """Group-relative policy optimization (GRPO, arXiv:2402.03300) with a reward that is checked.

    The names are those of TRL's GRPOConfig where it has one, and so are the numbers.
    """

    questions: Names = ()
    """Files of questions with their answers, as JSON lines, JSON or Parquet; `bank` names the
    questions that come with Lyceum."""
    verifier: VerifierName = "answer"
    """What verifies the answers to questions that name no verifier of their own."""
    group: Positive = 8
    """Answers to each question, which are compared with one another. batch.sequences counts answers
    in this stage, and is a multiple of it."""
    tokens: Positive = 128
    """Tokens of an answer at most."""
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """Divides the logits: of the answers that are written, and of the policy that learns."""
    top_k: Count = 0
    """Only the k likeliest tokens are sampled; 0: all. The loss knows nothing of it."""
    top_p: Fraction = 1.0
    """Only the likeliest tokens that together have this probability are sampled, as `top_k`."""
    loss: Literal["dapo", "grpo", "dr_grpo", "bnpo"] = "dapo"
    """What a token's loss is divided by: `dapo`: the tokens of an update, their mean over the
    sampling (arXiv:2503.14476); `bnpo`: this update's own; `grpo`: its answer's, and then the
    answers (arXiv:2402.03300), which favours short right ones; `dr_grpo`: the answers times
    `tokens` (arXiv:2503.20783)."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """What an answer's lead over the mean of its group is divided by: the standard deviation in the
    group, or over the sampling (arXiv:2508.08221), or 1 (arXiv:2503.20783)."""
    importance: Literal["token", "sequence"] = "token"
    """Whether the ratio of policy to sampling policy is each token's own, or of all tokens of an
    answer their geometric mean (GSPO, arXiv:2507.18071)."""
    clip: NotNegative = 0.2
    """How far below 1 a ratio may go before it no longer counts."""
    clip_high: NotNegative | None = None
    """How far above 1; none: as `clip`. DAPO takes 0.28."""
    beta: NotNegative = 0.0
    """Weight of the KL divergence from the weights that the run started from (`reference`), by
    Schulman's k3 estimator; 0: nothing holds the policy, as TRL's default."""
    reference: Literal["base", "copy"] = "base"
    """What `beta` holds the policy to: the frozen base under `lora`, which costs no memory; or a
    second, frozen copy of the weights of init_from, which is as large as they are on every rank,
    whatever zero.stage."""
    kl_correction: bool = True
    """Whether the divergence is multiplied by the ratio, which makes its gradient unbiased
    (arXiv:2512.02556), as TRL's default."""
    updates: Positive = 1
    """Batches of answers that one sampling writes, an optimizer step each. All but the first come
    from weights that are up to updates x passes - 1 steps old: more of them take the generator
    less time, and the ratios have more to mend."""
    passes: Positive = 1
    """How often each batch of a sampling is learned from."""
    mask_truncated: bool = False
    """Whether an answer that was cut at `tokens` is left out of the loss; its reward counts."""
    constant_in_a_row: Count = 20
    """Samplings in a row in which every group has one reward, so that nothing is learned, after
    which the run ends; 0: never."""
    rewards: RewardsSection = RewardsSection()
    """What an answer earns."""

    @property
    def highest_ratio(self) -> float:
        """The ratio above which a token of a better answer no longer counts."""
        return 1.0 + (self.clip if self.clip_high is None else self.clip_high)

    @property
    def keeps_copy(self) -> bool:
        """Whether a second, frozen copy of the first weights stands beside those that learn."""
        return self.beta > 0 and self.reference == "copy"

    @property
    def lag(self) -> int:
        """Optimizer steps between a sampling and the last step that learns from it."""
        return self.updates * self.passes - 1


def check_reinforce(recipe: "Recipe") -> None:
    """Raise RecipeError where `reinforce` contradicts itself or the rest."""
    section = recipe.reinforce
    if not section.questions:
        raise RecipeError(
            "reinforce.questions: is empty; name files of questions, as"
            " reinforce.questions=[questions.jsonl]"
        )
    if recipe.init_from is None:
        raise RecipeError(
            "init_from: names no model to ask; set it to a checkpoint, as of a fine-tuned run"
        )
    if section.group < 2:
        raise RecipeError(
            "reinforce.group: 1 answer has no other to be compared with; use 2 or more"
        )
    if recipe.batch.sequences % section.group:
        raise RecipeError(
            f"batch.sequences: {recipe.batch.sequences} answers are not a multiple of"
            f" reinforce.group {section.group}; try batch.sequences="
            f"{-(-recipe.batch.sequences // section.group) * section.group}"
        )
    if section.tokens >= recipe.sequence_length:
        raise RecipeError(
            f"reinforce.tokens: {section.tokens} leave no room for a question in sequence_length"
            f" {recipe.sequence_length}; lower it"
        )
    _check_divergence(recipe)
    _check_rewards(section)
    _check_other_sections(recipe)


def _check_divergence(recipe: "Recipe") -> None:
    section = recipe.reinforce
    if section.reference == "copy":
        if not section.beta:
            raise RecipeError(
                "reinforce.reference: is not read, as reinforce.beta is 0; set reinforce.beta, as"
                " to 0.04, or leave it out"
            )
        return
    if not section.beta:
        return
    if recipe.lora is None:
        raise RecipeError(
            "reinforce.beta: holds the policy to the frozen base, which only lora keeps; set lora,"
            " reinforce.reference=copy, which takes as much memory as the weights, or"
            " reinforce.beta=0"
        )
    if recipe.lora.modules_to_save:
        raise RecipeError(
            "reinforce.beta: holds the policy to the frozen base, of which lora.modules_to_save"
            " trains parts; leave those out, or set reinforce.reference=copy or reinforce.beta=0"
        )


def _check_rewards(section: ReinforceSection) -> None:
    rewards, target = section.rewards, section.rewards.length_target
    if target is not None and target >= section.tokens:
        raise RecipeError(
            f"reinforce.rewards.length_target: {target} is never passed by answers of"
            f" reinforce.tokens {section.tokens}; lower it, or leave it out"
        )
    if rewards.format_regex is not None:
        import regex  # here, as few recipes have one

        try:
            regex.compile(rewards.format_regex)
        except (regex.error, RecursionError, OverflowError) as error:
            raise RecipeError(
                f"reinforce.rewards.format_regex: {rewards.format_regex!r} is no regular"
                f" expression ({error}); mend it"
            ) from None
    told = {rewards.right, rewards.declined, rewards.wrong}
    aside = rewards.asks_form or (target is not None and rewards.length_weight > 0)
    if len(told) == 1 and rewards.declined_unknowable == rewards.wrong and not aside:
        raise RecipeError(
            f"reinforce.rewards: every answer earns {rewards.right:g}, so that nothing is learned;"
            " let right, declined and wrong differ"
        )


def _check_other_sections(recipe: "Recipe") -> None:
    """Nothing that a recipe says is left unread: keys of other stages are refused."""
    recipe.loss.check_unread("reinforce")
    if recipe.data.mixture or recipe.corpus is not None:
        key = "data.mixture" if recipe.data.mixture else "corpus"
        raise RecipeError(
            f"{key}: is read by other stages; reinforce asks reinforce.questions: leave it out"
        )
    unread = {
        "preference": recipe.preference,
        "conversations": recipe.conversations.model_copy(
            update={"template_variables": {}, "system": None}
        ),
    }
    for name, section in unread.items():
        for key, value in section.model_dump().items():
            if value != type(section)().model_dump()[key]:
                raise RecipeError(
                    f"{name}.{key}: {json.dumps(value, default=str)} is read by other stages, and"
                    " not by reinforce; leave it out"
                )
    if recipe.evaluate.every:
        raise RecipeError(
            "evaluate.every: reinforce has no held-out rows; set it to 0, and name suites in"
            " evaluate.suites, which are measured while it trains"
        )


def check_unread(recipe: "Recipe") -> None:
    """Raise RecipeError where `reinforce` is set in a recipe of another stage."""
    unset = ReinforceSection().model_dump()
    for key, value in recipe.reinforce.model_dump().items():
        if value != unset[key]:
            raise RecipeError(
                f"reinforce.{key}: is read by stage reinforce, and the stage is {recipe.stage};"
                " set stage=reinforce, or leave it out"
            )
