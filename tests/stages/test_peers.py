"""Fine-tuning's loss and gradients of one batch are those of TRL's SFTTrainer.

The same weights, and the same file of examples: here through the set, the stream, packed rows and
micro-batches of the stage; there through TRL's own rendering, masks, collator and loss, on padded
rows, and on packed ones too. TRL recommends flash attention for these; transformers' sdpa masks
them as well, from where the positions begin anew.

The examples are such that both supervise the same tokens: generation blocks hold the end of a turn
and nothing behind it, and the template of the completions writes nothing behind it.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conversations.talks import GENERATION, HEADERS, LLAMA, TRAINED
from tests.parity.ranks import on_ranks
from tests.stages.peers import (
    TOLERANCE,
    Passed,
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
from trainer.data.batch import IGNORE
from trainer.data.tokenizer import Tokenizer

# TRL speaks of checkpointing in words that transformers is about to leave behind.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")

QUESTIONS = (
    *("What is the capital of France?", "Of what?", "And who said that it is so, and not else?"),
    *("Is it?", "What of it, then?", "Name the user.", "What is the course of the system?"),
)
ANSWERS = (
    *("Paris, of course.", "Of the user.", "Paris.", "It is what the capital is, of course."),
    *("No.", "The assistant, who is not the user of the system.", "What?"),
)


def turns(number: int, count: int) -> list[dict[str, str]]:
    """So many questions and answers."""
    messages = []
    for turn in range(number, number + count):
        messages.append({"role": "user", "content": QUESTIONS[turn % len(QUESTIONS)]})
        messages.append({"role": "assistant", "content": ANSWERS[3 * turn % len(ANSWERS)]})
    return messages


TALKS = [{"messages": turns(number, 1 + number % 3)} for number in range(7)]
TALKS[2]["messages"].insert(0, {"role": "system", "content": "Name what is asked."})
COMPLETIONS = [
    {"prompt": talk["messages"][:-1], "completion": talk["messages"][-1:]} for talk in TALKS
]
TEXTS = [
    {"prompt": question, "completion": f" {answer}"}
    for question, answer in zip(QUESTIONS, ANSWERS, strict=True)
]


@dataclass(frozen=True)
class Case:
    """Examples, how they are rendered, and the options with which TRL trains on the same tokens."""

    records: list[dict[str, Any]]
    tokenizer: Tokenizer
    template: str | None
    options: dict[str, Any]
    sequence_length: int
    """With which the examples fill the rows of one batch, none of which is then repeated."""


ROWS = 4
CASES = {
    "turns": Case(TALKS, TRAINED, GENERATION, {"assistant_only_loss": True}, 135),
    "completions": Case(COMPLETIONS, LLAMA, HEADERS, {"completion_only_loss": True}, 150),
    "texts": Case(TEXTS, TRAINED, None, {"completion_only_loss": True}, 50),
}


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Work]:
    """Each case's set, built from its file, and the weights."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LYCEUM_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name, case in CASES.items():
            folder = tmp_path_factory.mktemp(name)
            keys: dict[str, Any] = {"sequence_length": case.sequence_length}
            keys |= {"batch": {"sequences": ROWS, "micro": 2}}
            if case.template is not None:
                (folder / "chat.jinja").write_text(case.template, encoding="utf-8")
                keys["conversations__template"] = str(folder / "chat.jinja")
            recipe = set_recipe(folder, "sft", case.records, case.tokenizer, **keys)
            source = recipe.data.mixture[0].corpus
            weights = weights_of(network(0))
            made[name] = Work(recipe, [ensure_set(recipe, source)], weights, weights)
    return made


@pytest.fixture(scope="module")
def alone(works: dict[str, Work]) -> dict[str, Passed]:
    """What the stage makes of each case on one process."""
    (passed,) = on_ranks(1, pass_batches, list(works.values()))
    return dict(zip(works, passed, strict=True))


@dataclass(frozen=True)
class Trainer:
    """A trainer of TRL's, with the model that it trains and its first batch: all examples."""

    trainer: Any
    model: Any
    batch: dict[str, Any]

    def loss(self, **changed: Any) -> Tensor:
        """Its loss, with parts of the batch changed."""
        loss: Tensor = self.trainer.compute_loss(self.model, self.batch | changed)
        return loss


def trl_of(
    name: str, works: dict[str, Work], folder: Path, model: Any = None, **options: Any
) -> Trainer:
    """SFTTrainer on a case's examples, with the tokenizer that our set carries."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    case, model = CASES[name], network(0) if model is None else model
    quiet = {"use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True}
    arguments = {"per_device_train_batch_size": len(case.records), "max_length": None, **options}
    trainer = SFTTrainer(
        model,
        SFTConfig(str(folder), **quiet, **case.options, **arguments),
        train_dataset=Dataset.from_list(case.records),
        processing_class=AutoTokenizer.from_pretrained(works[name].folders[0] / "tokenizer"),
    )
    return Trainer(trainer, model, next(iter(trainer.get_train_dataloader())))


PACKED = {"packing": True, "max_length": 160}


@pytest.mark.parametrize("options", [{}, PACKED], ids=["padded", "packed"])
@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients_equal_trls(works, alone, tmp_path, name: str, options) -> None:
    """Catches a token supervised or left out, attention or positions across the conversations of a
    row, a mean over rows or micro-batches, and any operation that the model computes otherwise.
    """
    peer, passed = trl_of(name, works, tmp_path, **options), alone[name]
    labels = peer.batch["labels"]
    assert labels.shape[0] == (1 if options else len(CASES[name].records))
    # No first token is predicted: TRL's loss leaves it out where it stands first in its row.
    assert passed.weight == (labels[:, 1:] != IGNORE).sum()
    assert sum(passed.segments) == len(CASES[name].records) + ROWS, "each once, and paddings"
    assert max(passed.segments) > 2, "some share a row"
    loss = peer.loss()
    assert abs(passed.loss - loss.item()) < TOLERANCE
    found = gradients_of([passed], works[name].recipe)
    worst, where = largest_gradient_difference(found, peer_gradients(peer.model, loss))
    assert worst < TOLERANCE, where


def test_two_tensor_ranks_find_trls_loss_and_gradients(works, tmp_path) -> None:
    """Catches a vocabulary, heads or masks that the ranks cut wrongly."""
    work = works["turns"]
    recipe = with_parallel(work.recipe, tensor=2)
    ranks = [passed[0] for passed in on_ranks(2, pass_batches, [replace(work, recipe=recipe)])]
    peer = trl_of("turns", works, tmp_path)
    loss = peer.loss()
    for passed in ranks:
        assert abs(passed.loss - loss.item()) < TOLERANCE
    found = gradients_of(ranks, recipe)
    worst, where = largest_gradient_difference(found, peer_gradients(peer.model, loss))
    assert worst < TOLERANCE, where


def test_other_masks_give_another_loss(works, alone, tmp_path) -> None:
    """The negative control: with the questions as labels, or each label on the next token, TRL's
    loss is far from ours; so it is where one conversation sees the others of its row.
    """
    padded, packed = trl_of("turns", works, tmp_path), trl_of("turns", works, tmp_path, **PACKED)
    labels, seen = padded.batch["labels"], padded.batch["attention_mask"].bool()
    whole = {"labels": padded.batch["input_ids"].where(seen, IGNORE)}
    places = torch.arange(packed.batch["input_ids"].shape[1])[None]
    losses = [
        padded.loss(**whole),
        padded.loss(labels=labels.roll(1, dims=1)),
        packed.loss(position_ids=places),
    ]
    for loss in losses:
        assert abs(loss.item() - alone["turns"].loss) > 1000 * TOLERANCE
