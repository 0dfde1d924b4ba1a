"""The same models and answers through TRL's trainers: losses, metrics and gradients are equal."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.data.batch import IGNORE
from trainer.recipe.fine_tuning import PreferenceSection
from trainer.stages.answers import answer_log_probabilities, segment_ids, segment_indices
from trainer.stages.preference_losses import judged_losses, mean_metrics, pair_losses

# TRL speaks of checkpointing in words that transformers is about to leave behind.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")

VOCAB = 32
PAIRS = (("w1 w2 w3", "w4 w5", "w6"), ("w1 w2", "w9 w5 w3", "w6 w6 w6 w2"), ("w7", "w8", "w1 w2"))
"""Prompt, chosen and rejected; the trainers put <eos> behind an answer."""

OPTIONS = {
    "per_device_train_batch_size": len(PAIRS),
    "report_to": [],
    "use_cpu": True,
    "bf16": False,
    "disable_tqdm": True,
}


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<eos>", "<unk>", *(f"w{number}" for number in range(VOCAB - 3))]
    ids = {word: number for number, word in enumerate(words)}
    whole = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    whole.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=whole, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def model(seed: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        **{"vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48},
        **{"num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.3},
        **{"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1},
    )
    return LlamaForCausalLM(config)


def packed_answers(
    policy: Any, ids: Tensor, attention: Tensor, answers: Tensor
) -> tuple[Tensor, Tensor]:
    """Log-probability and tokens of each sequence's answer, [sequences], read from one packed row.

    `ids`, `attention`, `answers`: [sequences, length] as TRL lays them, padded at the end.
    """
    nats, labels, positions = [], [], []
    for known, length, own in zip(ids, attention.sum(dim=1).tolist(), answers, strict=True):
        logits = policy(known[None, :length]).logits[0, :-1]
        target = known[1:length]
        nats.append(torch.nn.functional.cross_entropy(logits, target, reduction="none"))
        labels.append(target.where(own[1:length].bool(), IGNORE))
        positions.append(torch.arange(length - 1))
    nats.append(torch.full((3,), 7.0))
    labels.append(torch.full((3,), IGNORE))
    positions.append(torch.arange(3))
    row = [torch.cat(parts)[None] for parts in (nats, labels, positions)]
    sums, tokens = answer_log_probabilities(row[0], row[1], segment_ids(row[2]), len(ids) + 2)
    indices = segment_indices(torch.tensor([len(ids)]), len(ids) + 2)
    return sums.flatten()[indices], tokens.flatten()[indices]


def gradients(policy: Any, loss: Tensor) -> dict[str, Tensor]:
    policy.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in policy.named_parameters()}


def assert_equal(policy: Any, loss: Tensor, of_trl: Tensor) -> None:
    """fp32 sums in two orders: equal to 1e-5 of the loss, and of each weight's largest gradient."""
    torch.testing.assert_close(loss, of_trl, rtol=1e-5, atol=0)
    ours, theirs = gradients(policy, loss), gradients(policy, of_trl)
    for name, expected in theirs.items():
        scale = float(expected.abs().max())
        assert scale > 0, name
        torch.testing.assert_close(ours[name], expected, rtol=0, atol=1e-5 * scale)


def assert_reported(metrics: dict[str, float], trainer: Any) -> None:
    names = {f"reward_{side}": f"rewards/{side}" for side in ("chosen", "rejected")}
    names |= {f"log_probability_{side}": f"logps/{side}" for side in ("chosen", "rejected")}
    names |= {"reward_margin": "rewards/margins", "reward_accuracy": "rewards/accuracies"}
    theirs = trainer._metrics["train"]
    for ours, name in names.items():
        if name in theirs:
            assert metrics[ours] == pytest.approx(theirs[name][-1], rel=1e-5), ours


def of_pairs(
    section: PreferenceSection, policy: Any, reference: Any, ids: Tensor, mask: Tensor, own: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Our mean loss and metrics of TRL's rows: all chosen ones, then all rejected ones."""
    pairs = len(ids) // 2
    order = torch.arange(2 * pairs).view(2, pairs).t().flatten()
    rows = ids[order], mask[order], own[order]
    sums, tokens = packed_answers(policy, *rows)
    known = None
    if reference is not None:
        with torch.no_grad():
            known = packed_answers(reference, *rows)[0].view(-1, 2)
    losses, metrics = pair_losses(section, sums.view(-1, 2), tokens.view(-1, 2), known)
    return losses.mean(), means_of(metrics, pairs)


def means_of(metrics: dict[str, Tensor], count: int) -> dict[str, float]:
    """What is reported of so many pairs or examples."""
    totals = {name: values.sum() for name, values in metrics.items()}
    means = mean_metrics(totals, torch.tensor(float(count)))
    return {name: mean.item() for name, mean in means.items()}


@pytest.mark.parametrize(
    ("keys", "options", "pairs"),
    [
        ({"loss": "dpo", "beta": 0.3}, {"loss_type": ["sigmoid"]}, 3),
        (
            {"loss": "dpo", "beta": 0.3, "length_normalised": True},
            {"loss_type": ["sigmoid_norm"]},
            3,
        ),
        ({"loss": "ipo", "beta": 0.3, "length_normalised": True}, {"loss_type": ["ipo"]}, 3),
        # TRL smooths no `sigmoid`; its `aot`, of one pair, is the conservative loss.
        (
            {"loss": "dpo", "beta": 0.3, "label_smoothing": 0.2},
            {"loss_type": ["aot"], "label_smoothing": 0.2},
            1,
        ),
        # Over several pairs TRL's NLL is a mean over tokens, ours over pairs of their means.
        (
            {"loss": "dpo", "beta": 0.3, "nll_weight": 0.7},
            {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.7]},
            1,
        ),
    ],
)
def test_losses_against_a_reference_equal_trls(
    tmp_path: Path, keys: dict[str, Any], options: dict[str, Any], pairs: int
) -> None:
    """Catches any difference from DPOTrainer: which tokens count, what is a mean, beta, signs."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    policy, reference = model(0), model(1)
    examples = [
        dict(zip(("prompt", "chosen", "rejected"), (f"{p} ", f"{c} ", f"{r} "), strict=True))
        for p, c, r in PAIRS[:pairs]
    ]
    trainer = DPOTrainer(
        policy,
        ref_model=reference,
        args=DPOConfig(str(tmp_path), beta=0.3, **OPTIONS, **options),
        train_dataset=Dataset.from_list(examples),
        processing_class=tokenizer(),
    )
    batch = next(iter(trainer.get_train_dataloader()))
    of_trl = trainer.compute_loss(policy, batch)
    rows = batch["input_ids"], batch["attention_mask"], batch["completion_mask"]
    assert len(rows[0]) == 2 * pairs
    section = PreferenceSection(**keys)
    loss, metrics = of_pairs(section, policy, reference, *rows)
    assert_equal(policy, loss, of_trl)
    if not section.length_normalised:
        assert_reported(metrics, trainer)


def padded(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """What TRL's older trainers give to the model: ids, attention and answers, chosen first."""
    width = max(batch[f"{side}_input_ids"].shape[1] for side in ("chosen", "rejected"))
    rows: tuple[list[Tensor], ...] = ([], [], [])
    for side in ("chosen", "rejected"):
        own = batch[f"{side}_labels"] != IGNORE
        parts = batch[f"{side}_input_ids"], batch[f"{side}_attention_mask"], own
        for row, part in zip(rows, parts, strict=True):
            row.append(torch.nn.functional.pad(part, (0, width - part.shape[1])))
    ids, attention, answers = (torch.cat(row) for row in rows)
    return ids, attention, answers


@pytest.mark.parametrize(
    ("keys", "options", "pairs"),
    [
        ({"margin": 0.6}, {"simpo_gamma": 0.6, "cpo_alpha": 0.0}, 3),
        ({"label_smoothing": 0.1}, {"label_smoothing": 0.1, "cpo_alpha": 0.0}, 3),
        ({"nll_weight": 0.7}, {"cpo_alpha": 0.7}, 1),  # its NLL is a mean over tokens
    ],
)
def test_simpo_equals_trls(
    tmp_path: Path, keys: dict[str, Any], options: dict[str, Any], pairs: int
) -> None:
    """Catches any difference from CPOTrainer's simpo: the margin, the means, the smoothing."""
    from datasets import Dataset
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    policy = model(0)
    examples = [
        dict(zip(("prompt", "chosen", "rejected"), pair, strict=True)) for pair in PAIRS[:pairs]
    ]
    trainer = CPOTrainer(
        policy,
        args=CPOConfig(str(tmp_path), loss_type="simpo", beta=1.5, **OPTIONS, **options),
        train_dataset=Dataset.from_list(examples),
        processing_class=tokenizer(),
    )
    batch = next(iter(trainer.get_train_dataloader()))
    of_trl, theirs = trainer.get_batch_loss_metrics(policy, batch)
    section = PreferenceSection(loss="simpo", beta=1.5, **keys)
    loss, metrics = of_pairs(section, policy, None, *padded(batch))
    assert_equal(policy, loss, of_trl)
    for name in ("chosen", "rejected"):
        assert metrics[f"reward_{name}"] == pytest.approx(theirs[f"rewards/{name}"], rel=1e-5)


def test_orpo_equals_trls_where_a_prompt_is_one_token(tmp_path: Path) -> None:
    """Catches any difference from ORPOTrainer but in the prompt, whose tokens it learns and we not.

    A prompt's first token is never a label, so prompts of one token leave the answer's alone; and
    its NLL is a mean over tokens, so that the chosen answers are of one length.
    """
    from datasets import Dataset
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    policy = model(0)
    examples = [
        {"prompt": "w1", "chosen": "w4 w5", "rejected": "w6"},
        {"prompt": "w9", "chosen": "w2 w8", "rejected": "w6 w6 w3"},
    ]
    trainer = ORPOTrainer(
        policy,
        args=ORPOConfig(str(tmp_path), beta=0.8, **OPTIONS),
        train_dataset=Dataset.from_list(examples),
        processing_class=tokenizer(),
    )
    batch = next(iter(trainer.get_train_dataloader()))
    of_trl, theirs = trainer.get_batch_loss_metrics(policy, batch)
    loss, metrics = of_pairs(PreferenceSection(loss="orpo", beta=0.8), policy, None, *padded(batch))
    assert_equal(policy, loss, of_trl)
    assert metrics["nll"] == pytest.approx(theirs["nll_loss"], rel=1e-5)
    for name in ("chosen", "rejected"):
        assert metrics[f"reward_{name}"] == pytest.approx(theirs[f"rewards/{name}"], rel=1e-5)


@pytest.mark.parametrize("seeds", [(1, 0), (0, 1)])
def test_kto_equals_trls(tmp_path: Path, seeds: tuple[int, int]) -> None:
    """Catches any difference from KTOTrainer, with an estimated divergence of either sign."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    policy, reference = (model(seed) for seed in seeds)
    examples = [
        {"prompt": f"{prompt} ", "completion": f"{answer} ", "label": good}
        for (prompt, answer, _), good in zip(PAIRS, (True, False, True), strict=True)
    ]
    weights = {"beta": 0.3, "desirable_weight": 1.2, "undesirable_weight": 0.7}
    trainer = KTOTrainer(
        policy,
        ref_model=reference,
        args=KTOConfig(str(tmp_path), **weights, **OPTIONS),
        train_dataset=Dataset.from_list(examples),
        processing_class=tokenizer(),
    )
    batch = next(iter(trainer.get_train_dataloader()))
    of_trl = trainer.compute_loss(policy, batch)

    def answers(of: Any, prefix: str) -> Tensor:
        names = ("input_ids", "attention_mask", "completion_mask")
        return packed_answers(of, *(batch[prefix + name] for name in names))[0]

    with torch.no_grad():
        known = answers(reference, "")
        baseline = (answers(policy, "KL_") - answers(reference, "KL_")).mean()
    assert bool(baseline > 0) == (seeds == (1, 0))
    section = PreferenceSection(loss="kto", **weights)
    losses, metrics = judged_losses(section, answers(policy, ""), known, batch["label"], baseline)
    assert_equal(policy, losses.mean(), of_trl)
    means = means_of(metrics, len(PAIRS))
    assert_reported(means, trainer)
    assert means["kl"] == pytest.approx(trainer._metrics["train"]["kl"][-1], rel=1e-5)
