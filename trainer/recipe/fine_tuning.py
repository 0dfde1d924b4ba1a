"""`conversations` and `preference`: what fine-tuning adds to a recipe; `lora` stands in lora.py."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from trainer.errors import RecipeError
from trainer.recipe.lora import check_lora
from trainer.recipe.own_samples import FactualitySection, RefusalsSection
from trainer.recipe.own_sets import check_own_samples
from trainer.recipe.reinforce import check_unread
from trainer.recipe.section import Fraction, Positive, Section

if TYPE_CHECKING:
    from trainer.recipe.recipe import Recipe


class BalanceSection(Section):
    """Demographic balance of a set, as `corpus.rules.balance` mends it in a corpus."""

    counterfactual: Fraction = 0.0
    """Share of the examples with gendered terms that get a counterfactual: the terms of all turns
    swapped, of both answers where there are two. It is held out where its example is. Sets of the
    run's own samples stay as they were answered: what is swapped, the model was not asked."""
    replace: bool = False
    """The counterfactual takes the place of the example, instead of standing beside it."""


class ConversationsSection(Section):
    """How conversations and preferences become tokens; the files stand in `data.mixture`."""

    template: str | None = None
    """A Jinja chat template: a file, "chatml", or the name of one of the tokenizer's own, such as
    tool_use; none: the tokenizer's default (tool_use where an example has tools), or ChatML."""
    template_variables: dict[str, Any] = Field(default_factory=dict)
    """What the template gets by name, such as {enable_thinking: false}; an example's own
    chat_template_kwargs go before. A checkpoint keeps them for `lyceum chat`."""
    system: str | None = None
    """System prompt of the conversations that have none; none: they stay without."""
    rewriting: Literal["split", "last", "refuse"] = "split"
    """What becomes of a conversation whose earlier turns the template rewrites for a later answer,
    as Qwen 3 drops earlier reasoning: a sequence an answer, each behind the prompt that asks for
    it; only the last answer; or the run is refused. Others are one sequence."""
    same_role: Literal["join", "refuse"] = "refuse"
    """What becomes of two turns of one role in a row: joined by a blank line, or the example is
    refused."""
    special_tokens: Literal["refuse", "text", "token"] = "refuse"
    """What special tokens mean that a prompt or completion of bare text spells: the example is
    refused, their letters are read, or the tokens. A conversation never spells them."""
    too_long: Literal["drop", "cut", "stop"] = "drop"
    """What becomes of a conversation above sequence_length: left out, cut at its end, or the run is
    refused. A pair of answers is never cut."""
    malformed: Literal["stop", "drop"] = "stop"
    """What becomes of an example that cannot be used: the run is refused, or it is left out and
    counted."""
    validation: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.02
    """Share of the examples of each set that is held out, chosen by their hash."""
    balance: BalanceSection = BalanceSection()
    """Counterfactual examples, their gendered terms swapped; none by default."""
    refusals: RefusalsSection = RefusalsSection()
    """Examples of what the run's own model knows and does not know; none by default."""
    factuality: FactualitySection = FactualitySection()
    """Preferences between the run's own model's right and wrong answers; none by default."""
    shard_tokens: Positive = 1_000_000
    """Tokens after which a shard of a set is closed."""
    neftune_alpha: Annotated[float, Field(ge=0.0)] = 0.0
    """Noise on the embeddings while training, uniform within alpha / sqrt(tokens x hidden)
    (arXiv:2310.05914); 0: none."""


class PreferenceSection(Section):
    """What `stage: preference` minimises, and against which reference."""

    loss: Literal["dpo", "ipo", "kto", "orpo", "simpo"] = "dpo"
    """DPO (arXiv:2305.18290), IPO (2310.12036), KTO (2402.01306), ORPO (2403.07691), SimPO
    (2405.14734)."""
    beta: Annotated[float, Field(gt=0.0)] | None = None
    """How strongly the reference holds the model (IPO: tau; ORPO: lambda; SimPO: the scale of its
    rewards); none: 2.0 for simpo, else 0.1."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0
    """Chance that a preference is the wrong way round (conservative DPO); dpo and simpo only."""
    length_normalised: bool = False
    """Whether dpo's and ipo's log-probabilities are means over an answer's tokens, not sums."""
    margin: Annotated[float, Field(ge=0.0)] = 0.5
    """simpo: how far the chosen answer's reward is to be ahead (gamma)."""
    desirable_weight: Annotated[float, Field(ge=0.0)] = 1.0
    """kto: weight of the good answers."""
    undesirable_weight: Annotated[float, Field(ge=0.0)] = 1.0
    """kto: weight of the bad answers."""
    nll_weight: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of the chosen answers' own loss a token, beside a loss over pairs."""
    reference: Literal["stored", "base"] = "stored"
    """`stored`: the starting weights' log-probabilities, computed once before the first step and
    kept with the data; `base`: of the frozen base under `lora`, at every step."""

    @property
    def strength(self) -> float:
        """`beta`, the default resolved."""
        if self.beta is not None:
            return self.beta
        return 2.0 if self.loss == "simpo" else 0.1

    @property
    def needs_reference(self) -> bool:
        """Whether the loss compares with reference log-probabilities."""
        return self.loss in ("dpo", "ipo", "kto")


def check_fine_tuning(recipe: "Recipe") -> None:
    """Raise RecipeError where stage, conversations, preference and lora contradict the rest."""
    if recipe.stage_traits.reads_sets and not recipe.data.mixture:
        raise RecipeError(
            f"data.mixture: is empty, and stage {recipe.stage} reads sets; name their files, as in"
            " data.mixture=[{corpus: questions.jsonl}]"
        )
    check_own_samples(recipe)
    recipe.stage_traits.check(recipe)
    balance = recipe.conversations.balance
    if balance.replace and not balance.counterfactual:
        raise RecipeError(
            "conversations.balance.replace: no example gets a counterfactual to be replaced by; set"
            " conversations.balance.counterfactual, as to 0.5"
        )
    if not recipe.stage_traits.asks:
        check_unread(recipe)
    if recipe.lora is not None:
        check_lora(recipe)


def check_preference(recipe: "Recipe") -> None:
    """Raise RecipeError where `preference` sets what its loss or reference does not have."""
    section = recipe.preference
    recipe.loss.check_unread("preference")
    if section.label_smoothing and section.loss not in ("dpo", "simpo"):
        raise RecipeError(
            f"preference.label_smoothing: belongs to dpo and simpo, not {section.loss}; set it to 0"
        )
    if section.length_normalised and section.loss not in ("dpo", "ipo"):
        raise RecipeError(
            f"preference.length_normalised: belongs to dpo and ipo; {section.loss} is fixed in"
            " this; leave it out"
        )
    if section.nll_weight and section.loss in ("kto", "orpo"):
        raise RecipeError(
            f"preference.nll_weight: {section.loss} has no chosen answer's loss to weigh; set it"
            " to 0"
            if section.loss == "kto"
            else "preference.nll_weight: orpo holds the chosen answers' loss already; set it to 0"
        )
    if section.reference == "base" and recipe.lora is None:
        raise RecipeError(
            "preference.reference: base needs lora, whose base stays frozen; use"
            " preference.reference=stored"
        )
