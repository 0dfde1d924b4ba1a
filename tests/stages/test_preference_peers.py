"""A preference's loss, figures and gradients of one batch are those of TRL's DPOTrainer.

The same file of pairs and the same two models: here through the set, the reference's stored
log-probabilities, packed rows and micro-batches of the stage; there padded, the reference computed
beside the policy.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conversations.talks import HEADERS, LLAMA
from tests.parity.ranks import on_ranks
from tests.stages.peers import (
    TOLERANCE,
    Passed,
    Weights,
    Work,
    gradients_of,
    largest_gradient_difference,
    network,
    pass_batches,
    peer_gradients,
    set_recipe,
    weights_of,
    with_parallel,
)
from trainer.conversations.sets import ensure_set

# TRL speaks of checkpointing in words that transformers is about to leave behind.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")

BETA = 0.3
ROWS = 4
TALKS = (
    (("What is the capital of France?",), "Paris, of course.", "It is the user."),
    (("What of it?", "No.", "And what is the course?"), "Of the system.", "What is what?"),
    (("Is it?",), "It is what the capital is, of course.", "No."),
    (("Name the user.", "Paris.", "And the system?"), "No.", "The assistant, who is a user."),
    (("Of what?",), "Of France.", "Of the assistant, and of what the user said."),
    (("Who said so?", "What?", "Who, then?"), "The user.", "The course."),
)
"""What was said in turn, and the chosen and the rejected answer."""
PAIRS = [
    {
        "prompt": [
            {"role": ("user", "assistant")[number % 2], "content": text}
            for number, text in enumerate(said)
        ],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }
    for said, chosen, rejected in TALKS
]


def policy_of(reference: Weights) -> Weights:
    """The reference after some learning: each weight a little further."""
    generator = np.random.default_rng(3)
    return {
        name: values + 0.01 * generator.standard_normal(values.shape, dtype=np.float32)
        for name, values in reference.items()
    }


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """The set, built from its file; the reference, and the policy that the batch meets."""
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "chat.jinja").write_text(HEADERS, encoding="utf-8")
    keys = {"sequence_length": 160, "batch": {"sequences": ROWS, "micro": 2}}
    template = {"conversations__template": str(folder / "chat.jinja")}
    recipe = set_recipe(
        folder, "preference", PAIRS, LLAMA, **keys, **template, preference={"beta": BETA}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LYCEUM_CACHE", str(folder / "cache"))
        built = ensure_set(recipe, recipe.data.mixture[0].corpus)
    reference = weights_of(network(0))
    return Work(recipe, [built], reference, policy_of(reference))


@pytest.fixture(scope="module")
def alone(work: Work) -> Passed:
    """What the stage makes of the pairs on one process."""
    ((passed,),) = on_ranks(1, pass_batches, [work])
    return passed


@dataclass(frozen=True)
class Peer:
    """DPOTrainer's loss of all pairs, its figures, and the gradients of its policy."""

    loss: float
    figures: dict[str, float]
    gradients: dict[str, Tensor]


def trl_of(work: Work, folder: Path, pairs: list[dict[str, Any]]) -> Peer:
    """DPOTrainer on these pairs, with the tokenizer that our set carries."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    reference, policy = network(0), network(0)
    policy.load_state_dict({name: torch.from_numpy(w) for name, w in work.then.items()})
    quiet = {"use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True}
    options = {"per_device_train_batch_size": len(pairs), "max_length": None, "beta": BETA}
    trainer = DPOTrainer(
        policy,
        ref_model=reference,
        args=DPOConfig(str(folder), **quiet, **options),
        train_dataset=Dataset.from_list(pairs),
        processing_class=AutoTokenizer.from_pretrained(work.folders[0] / "tokenizer"),
    )
    loss = trainer.compute_loss(policy, next(iter(trainer.get_train_dataloader())))
    gradients = peer_gradients(policy, loss)
    figures = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    return Peer(loss.item(), figures, gradients)


FIGURES = {
    "reward_chosen": "rewards/chosen",
    "reward_rejected": "rewards/rejected",
    "reward_margin": "rewards/margins",
    "reward_accuracy": "rewards/accuracies",
    "log_probability_chosen": "logps/chosen",
    "log_probability_rejected": "logps/rejected",
}


def test_loss_figures_and_gradients_equal_trls(work, alone, tmp_path) -> None:
    """Catches answers mixed up in their rows, a reference of other weights or of another pair,
    attention from one answer to the next, a mean over rows, and a wrong sign.
    """
    peer = trl_of(work, tmp_path, PAIRS)
    assert alone.weight == len(PAIRS)
    assert max(alone.segments) > 3, "some pairs share a row"
    assert abs(alone.loss - peer.loss) < TOLERANCE
    for ours, theirs in FIGURES.items():
        # Of log-probabilities, tens of nats, a tolerance of 1e-5 would be one unit of the last bit.
        expected = pytest.approx(peer.figures[theirs], abs=TOLERANCE, rel=1e-6)
        assert alone.figures[ours] == expected, ours
    assert 0 < alone.figures["reward_accuracy"] < 1, "some of each"
    found = gradients_of([alone], work.recipe)
    worst, where = largest_gradient_difference(found, peer.gradients)
    assert worst < TOLERANCE, where


def test_two_tensor_ranks_find_trls_loss_and_gradients(work, tmp_path) -> None:
    """Catches log-probabilities, the reference's too, of which a rank has a part only."""
    # Without the references of one process, so that two compute their own.
    folder = tmp_path / "set"
    shutil.copytree(work.folders[0], folder, ignore=shutil.ignore_patterns("references"))
    recipe = with_parallel(work.recipe, tensor=2)
    cut = replace(work, recipe=recipe, folders=[folder])
    ranks = [passed[0] for passed in on_ranks(2, pass_batches, [cut])]
    peer = trl_of(work, tmp_path, PAIRS)
    for passed in ranks:
        assert abs(passed.loss - peer.loss) < TOLERANCE
    worst, where = largest_gradient_difference(gradients_of(ranks, recipe), peer.gradients)
    assert worst < TOLERANCE, where


def test_other_pairs_or_another_reference_give_another_loss(work, alone, tmp_path) -> None:
    """The negative control: pairs the wrong way round, answers of each other's questions, and a
    policy that is its own reference.
    """
    turned = [pair | {"chosen": pair["rejected"], "rejected": pair["chosen"]} for pair in PAIRS]
    questions = [*PAIRS[1:], PAIRS[0]]
    mixed = [
        pair | {"prompt": other["prompt"]} for pair, other in zip(PAIRS, questions, strict=True)
    ]
    losses = [
        trl_of(work, tmp_path, turned).loss,
        trl_of(work, tmp_path, mixed).loss,
        trl_of(replace(work, then=work.start), tmp_path, PAIRS).loss,
    ]
    for loss in losses:
        assert abs(loss - alone.loss) > 1000 * TOLERANCE
