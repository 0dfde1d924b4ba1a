"""Advantages, losses and gradients of fixed answers are those of TRL's GRPOTrainer.

TRL's own code runs: it takes the same token ids for what was generated, computes rewards'
advantages, the sampling policy's and the reference's log-probabilities, and then, with the policy
moved, the loss. Here the same goes through packed rows, micro-batches and the schedule.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conversations.talks import LLAMA
from tests.parity.ranks import on_ranks
from tests.stages.peers import (
    TOLERANCE,
    Weights,
    largest_gradient_difference,
    network,
    peer_gradients,
    weights_of,
    with_parallel,
)
from tests.stages.reinforced import (
    Case,
    Learned,
    adapted_name,
    adapter,
    learned,
    whole_boxes,
)
from tests.stages.test_preference_peers import policy_of
from tests.training.questions import reinforcing_recipe
from trainer.evaluate.respondent import WrittenAnswer
from trainer.hugging_face.names import tensor_map
from trainer.recipe import Recipe

# TRL speaks of checkpointing in words that transformers is about to leave behind.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")

GROUP, TOKENS, END = 4, 9, LLAMA.end_of_text
EARNED = {"yes": 1.0, "I don't know.": 0.0, "no": -1.0}
SAID = "yes no no yes | no yes no yes | no yes yes yes | yes yes yes yes".replace("|", "").split()
LENGTHS = (3, 9, 5, 2, 9, 1, 4, 6, 7, 2, 9, 5, 3, 3, 8, 4)


def answers(count: int) -> tuple[WrittenAnswer, ...]:
    """Random ids, of which every answer that is shorter than it might be ends."""
    generator = np.random.default_rng(5)
    found = []
    for number in range(count):
        said, length = SAID[number], LENGTHS[number]
        if number == 1:
            said = "I don't know."
        ended = length < TOKENS
        ids = generator.integers(4, 290, length - ended).tolist()
        end = END if ended else None
        found.append(WrittenAnswer(said, ended, (), tuple(map(int, ids)), end))
    return tuple(found)


@dataclass(frozen=True)
class Compared:
    """Keys of `reinforce`, and what TRL calls the same."""

    ours: dict[str, Any]
    theirs: dict[str, Any]
    updates: int = 1
    lora: bool = False


COMPARED = {
    "dapo": Compared({}, {}),
    "grpo": Compared(
        {"loss": "grpo", "clip": 0.05, "clip_high": 0.28},
        {"loss_type": "grpo", "epsilon": 0.05, "epsilon_high": 0.28},
    ),
    "dr_grpo": Compared(
        {"loss": "dr_grpo", "scale_rewards": "none"},
        {"loss_type": "dr_grpo", "scale_rewards": "none"},
    ),
    "bnpo": Compared(
        {"loss": "bnpo", "scale_rewards": "batch", "clip": 0.01},
        {"loss_type": "bnpo", "scale_rewards": "batch", "epsilon": 0.01},
    ),
    "a ratio an answer": Compared(
        {"loss": "grpo", "importance": "sequence", "temperature": 0.7, "clip": 0.003},
        {
            **{"loss_type": "grpo", "importance_sampling_level": "sequence"},
            **{"temperature": 0.7, "epsilon": 0.003},
        },
    ),
    "truncated left out": Compared({"mask_truncated": True}, {"mask_truncated_completions": True}),
    "truncated left out of grpo": Compared(
        {"mask_truncated": True, "loss": "grpo"},
        {"mask_truncated_completions": True, "loss_type": "grpo"},
    ),
    "two updates": Compared({"updates": 2, "passes": 1}, {"steps_per_generation": 2}, updates=2),
    "held": Compared({"beta": 0.3}, {"beta": 0.3}, lora=True),
    "held, plain divergence": Compared(
        {"beta": 0.3, "kl_correction": False, "loss": "grpo", "importance": "sequence"},
        {
            **{"beta": 0.3, "use_bias_correction_kl": False, "loss_type": "grpo"},
            "importance_sampling_level": "sequence",
        },
        lora=True,
    ),
    "held to a copy": Compared({"beta": 0.3, "reference": "copy"}, {"beta": 0.3}),
    "held by answers": Compared(
        {"beta": 0.3, "importance": "sequence", "loss": "dr_grpo"},
        {"beta": 0.3, "importance_sampling_level": "sequence", "loss_type": "dr_grpo"},
        lora=True,
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokenizer, the questions, and the base as transformers has it."""
    folder = tmp_path_factory.mktemp("reinforced")
    LLAMA.save(folder / "tokenizer")
    asked = ["What is it?", "Is the course of France of a user?", "Who?", "What of the system?"]
    lines = [{"question": text, "verifier": "regex", "pattern": "yes"} for text in asked]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "questions.jsonl").write_text(text, encoding="utf-8")
    network(0).save_pretrained(folder / "base")
    return folder


def case_of(folder: Path, compared: Compared, name: str) -> Case:
    count = 2 * GROUP * compared.updates
    keys = {"group": GROUP, "tokens": TOKENS, "passes": 2, "loss": "dapo", **compared.ours}
    recipe = reinforcing_recipe(
        folder / name.replace(" ", "-"),
        folder / "base",
        folder,
        **{"tokenizer": str(folder / "tokenizer"), "model__layers": 2},
        **{"batch": {"sequences": 2 * GROUP, "micro": 2}, "sequence_length": 64},
        **({"lora": {"rank": 3, "alpha": 6.0}} if compared.lora else {}),
        reinforce={"questions": [str(folder / "questions.jsonl")], **keys},
    )
    start = weights_of(network(0))
    return Case(recipe, answers(count), start, start if compared.lora else policy_of(start))


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, Learned]:
    """What the stage makes of each case on one process."""
    cases = [case_of(folder, compared, name) for name, compared in COMPARED.items()]
    (found,) = on_ranks(1, learned, cases)
    return dict(zip(COMPARED, found, strict=True))


def merged(recipe: Recipe, weights: Weights, ours: Learned, moved: bool) -> Weights:
    """The weights with the adapters added."""
    if recipe.lora is None:
        return weights
    found, matrices = dict(weights), adapters_of(ours, moved)
    for name, both in matrices.items():
        found[name] = weights[name] + 2.0 * (both["B"] @ both["A"]).numpy()
    return found


def adapters_of(ours: Learned, moved: bool) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for name, gradient in whole_boxes([ours]).items():
        theirs, matrix = adapted_name(name)
        values = torch.from_numpy(adapter(name, tuple(gradient.shape), moved))
        found.setdefault(theirs, {})[matrix] = values
    return found


@dataclass(frozen=True)
class TrlStep:
    """What GRPOTrainer finds of two steps, and its gradients of the second."""

    advantages: list[float]
    sampled: list[list[float]]
    losses: list[float]
    figures: list[dict[str, float]]
    gradients: dict[str, Tensor]


def trl_of(
    folder: Path, case: Case, compared: Compared, ours: Learned, rewards: Sequence[float]
) -> TrlStep:
    """GRPOTrainer on the answers of `ours`; their advantages and log-probabilities are its own."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer
    from trl.trainer.utils import split_tensor_dict

    before, after = (
        {
            name: torch.from_numpy(values)
            for name, values in merged(case.recipe, weights, ours, moved).items()
        }
        for weights, moved in ((case.start, False), (case.then, True))
    )
    policy = network(0)
    policy.load_state_dict(before)
    policy.config._name_or_path = str(folder / "base")  # where the reference is read from
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    tokenizer.pad_token_id, tokenizer.eos_token_id = 0, END
    policy.generation_config.eos_token_id = END
    count = len(ours.answers)
    options: dict[str, Any] = {
        **{"use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True},
        **{"per_device_train_batch_size": 2 * GROUP, "num_generations": GROUP},
        **{"max_completion_length": TOKENS, "num_iterations": 2, "steps_per_generation": 1},
        **{"gradient_checkpointing": False, **compared.theirs},
    }
    trainer = GRPOTrainer(
        policy,
        reward_funcs=lambda completions, **_: list(rewards),
        args=GRPOConfig(str(folder / "trl"), **options),
        train_dataset=Dataset.from_list([{"prompt": "What?"}] * 4),
        processing_class=tokenizer,
    )
    prompts, tokens = ([list(one[n]) for one in ours.answers] for n in (0, 1))
    texts = [f"answer {number}" for number in range(count)]
    trainer._generate = lambda _: (prompts, tokens, None, texts, None, {}, None, None)
    trainer.current_gradient_accumulation_steps = 1
    policy.train()
    inputs = trainer._generate_and_score_completions([{"prompt": "What?"}] * count)
    parts = split_tensor_dict(inputs, compared.updates)
    sampled = [
        nats[: len(own)].tolist()
        for nats, own in zip(inputs["old_per_token_logps"], tokens, strict=True)
    ]
    on_policy = {name: held for name, held in parts[0].items() if name != "old_per_token_logps"}
    losses, figures = [trainer._compute_loss(policy, on_policy).item()], [_figures(trainer)]
    policy.load_state_dict(after)
    loss = trainer._compute_loss(policy, parts[-1])
    losses.append(loss.item())
    figures.append(_figures(trainer))
    gradients = peer_gradients(policy, loss)
    return TrlStep(inputs["advantages"].tolist(), sampled, losses, figures, gradients)


def _figures(trainer: Any) -> dict[str, float]:
    names = {"entropy": "entropy", "clipped_low": "clip_ratio/low_mean"}
    names |= {"clipped_high": "clip_ratio/high_mean", "kl": "kl"}
    held = trainer._metrics["train"]
    return {ours: held[name][-1] for ours, name in names.items() if name in held}


def earned(case: Case) -> list[float]:
    return [EARNED[answer.text] for answer in case.written]


def gradients_of_adapters(ours: Learned, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """TRL's gradients of the merged weights, as those of the adapters (W + 2 B A)."""
    found, matrices = {}, adapters_of(ours, moved=True)
    for name in whole_boxes([ours]):
        weight, matrix = adapted_name(name)
        both, gradient = matrices[weight], theirs[weight]
        found[name] = 2.0 * (both["B"].T @ gradient if matrix == "A" else gradient @ both["A"].T)
    return found


def own_gradients(ranks: Sequence[Learned], recipe: Recipe) -> dict[str, Tensor]:
    """Ours, under Hugging Face's names; of adapters under ours."""
    wholes = whole_boxes(ranks)
    if recipe.lora is not None:
        return wholes
    found = {}
    for joined in tensor_map(recipe.model):
        whole = wholes[joined.name]
        for part in joined.parts:
            found[part.name] = part.take(lambda a, b, w=whole: w[a:b], torch.float32)
    return found


@pytest.mark.parametrize("name", COMPARED)
def test_advantages_losses_and_gradients_equal_trls(folder, alone, name: str) -> None:
    """Catches any difference from GRPOTrainer: which tokens count, what a loss is divided by, a
    clipped ratio's side, the divergence's sign, the temperature, the spread's n - 1.
    """
    compared, ours = COMPARED[name], alone[name]
    case = case_of(folder, compared, name)
    theirs = trl_of(folder, case, compared, ours, earned(case))
    assert [one[2] for one in ours.answers] == pytest.approx(theirs.advantages, abs=TOLERANCE)
    left_out = case.recipe.reinforce.mask_truncated
    for one, nats in zip(ours.answers, theirs.sampled, strict=True):
        if not (left_out and one[1][-1] != END):  # TRL reads nothing where nothing is learned
            assert list(one[3]) == pytest.approx(nats, abs=TOLERANCE)
    assert ours.losses == pytest.approx(theirs.losses, abs=TOLERANCE)
    by_answers = case.recipe.reinforce.importance == "sequence"
    for mine, expected in zip(ours.figures, theirs.figures, strict=True):
        for figure, value in expected.items():
            if not (by_answers and figure.startswith("clipped")):  # there TRL counts answers
                assert mine[figure] == pytest.approx(value, abs=TOLERANCE), figure
    assert ours.figures[0]["ratio"] == 1.0
    assert abs(ours.losses[1] - ours.losses[0]) > 100 * TOLERANCE, "the policy has moved"
    expected = theirs.gradients
    if compared.lora:
        expected = gradients_of_adapters(ours, expected)
    worst, where = largest_gradient_difference(own_gradients([ours], case.recipe), expected)
    # An adapter's is a product with the other matrix, whose rounding comes on top.
    assert worst < (2 if compared.lora else 1) * TOLERANCE, where


def test_tokens_are_clipped_in_some_of_the_cases(alone) -> None:
    """The negative control of the clipping: without clipped tokens it could be anything."""
    assert alone["grpo"].figures[1]["clipped_low"] > 0
    assert alone["bnpo"].figures[1]["clipped_high"] > 0
    assert alone["a ratio an answer"].figures[1]["clipped_low"] > 0


def test_other_rewards_or_another_loss_differ(folder, alone) -> None:
    """The negative control: TRL with the signs turned, and with the losses mixed up."""
    case = case_of(folder, COMPARED["grpo"], "grpo")
    turned = [-reward for reward in earned(case)]
    losses = [
        trl_of(folder, case, COMPARED["grpo"], alone["grpo"], turned).losses[1],
        trl_of(folder, case, COMPARED["dapo"], alone["grpo"], earned(case)).losses[1],
    ]
    for loss in losses:
        assert abs(loss - alone["grpo"].losses[1]) > 100 * TOLERANCE


def test_two_tensor_ranks_find_the_same(folder, alone) -> None:
    """Catches log-probabilities, and a reference's, of which a rank has a part only."""
    for name in ("grpo", "held by answers", "held to a copy"):
        case = case_of(folder, COMPARED[name], f"{name} cut")
        cut = replace(case, recipe=with_parallel(case.recipe, tensor=2))
        found = [one for (one,) in on_ranks(2, learned, [cut])]
        for one in found:
            assert one.losses == pytest.approx(alone[name].losses, abs=TOLERANCE)
        both = (own_gradients(some, cut.recipe) for some in (found, [alone[name]]))
        worst, where = largest_gradient_difference(*both)
        assert worst < TOLERANCE, where
