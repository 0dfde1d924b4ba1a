"""How well hidden states tell what exists from what does not: a bound for cures of the same data.

    python -m launch.experiments.truth.hidden_states [--model CHECKPOINT] [--layers 12 16 20 24 30]

Where a model is to begin its answer, a line through the hidden states of a layer is fitted on the
bank, questions that have an answer against those that have none, and tried on the held-out ones. No
wording is learned for that, and no answer: what is printed is what the model knows and does not
say. Takes some minutes, most of them in transformers' forward pass.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launch.experiments.commands import at_least_one, errors_in_one_line
from launch.experiments.tables import markdown_table
from launch.experiments.truth.held_out_suite import questions
from trainer.evaluate.smollm2 import smollm2_checkpoint
from trainer.hugging_face.exporting import export_command
from trainer.questions.bank import bank_questions
from trainer.questions.question import Question

if TYPE_CHECKING:
    from torch import Tensor

LAYERS = (12, 16, 20, 24, 30)
TOGETHER = 32
PENALTY = 3e-3
"""Of the squared length of the line's direction, in standard deviations of the states."""
DECLINED = 0.1
"""The share of what exists that may be declined where unknowns are counted."""


@dataclass(frozen=True)
class Separation:
    """How well a score tells unknowns from knowns.

    `area`: under the curve, the chance that an unknown has the higher one of two; `answered`: the
    share of unknowns below the score that `DECLINED` of the knowns are above.
    """

    area: float
    answered: float


def separation(known: "Tensor", unknown: "Tensor") -> Separation:
    """Of scores fp32 [knowns] and [unknowns], where a high one says that nobody knows."""
    above = (unknown[:, None] > known).float() + (unknown[:, None] == known).float() / 2
    bound = known.quantile(1 - DECLINED)
    return Separation(above.mean().item(), (unknown <= bound).float().mean().item())


def fitted(states: "Tensor", unknown: "Tensor") -> "tuple[Tensor, Tensor]":
    """The direction fp32 [hidden] and offset [] of a logistic regression with `PENALTY`.

    `states`: fp32 [questions, hidden], standardised; `unknown`: bool [questions]. Both sides weigh
    the same, however many they are.
    """
    import torch
    from torch.nn import functional

    direction = torch.zeros(states.shape[1], requires_grad=True)
    offset = torch.zeros((), requires_grad=True)
    weight = (~unknown).sum() / unknown.sum()
    optimizer = torch.optim.LBFGS([direction, offset], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> "Tensor":
        optimizer.zero_grad()
        found = functional.binary_cross_entropy_with_logits(
            states @ direction + offset, unknown.float(), pos_weight=weight
        )
        found = found + PENALTY * direction.square().sum()
        found.backward()
        return found

    optimizer.step(loss)
    return direction.detach(), offset.detach()


def states_of(folder: Path, asked: Sequence[Question], layers: Sequence[int]) -> "Tensor":
    """The last token's hidden states, fp32 [questions, layers, hidden], of an exported model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prompts = [
        tokenizer.apply_chat_template(_messages(one), add_generation_prompt=True, return_dict=False)
        for one in asked
    ]
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    found = [torch.empty(0)] * len(prompts)
    with torch.no_grad():
        for first in range(0, len(order), TOGETHER):
            places = order[first : first + TOGETHER]
            longest = max(len(prompts[place]) for place in places)
            # No token sees what stands behind it: the padding needs no mask.
            rows = [[*prompts[place], *[0] * (longest - len(prompts[place]))] for place in places]
            states = model.model(torch.tensor(rows), output_hidden_states=True).hidden_states
            for row, place in enumerate(places):
                last = len(prompts[place]) - 1
                found[place] = torch.stack([states[layer][row, last] for layer in layers])
    return torch.stack(found)


def _messages(question: Question) -> list[dict[str, str]]:
    system = [] if question.system is None else [{"role": "system", "content": question.system}]
    return [*system, {"role": "user", "content": question.text}]


def _unknown(asked: Sequence[Question]) -> "Tensor":
    import torch

    return torch.tensor([not one.answerable for one in asked])


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit a line a layer, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, help="a checkpoint that takes SmolLM2's place")
    parser.add_argument("--layers", type=at_least_one, nargs="+", default=list(LAYERS))
    given = parser.parse_args(arguments)
    bank, held_out = bank_questions(), questions()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        export_command(given.model or smollm2_checkpoint(), folder)
        shown, tried = (states_of(folder, asked, given.layers) for asked in (bank, held_out))
    rows = []
    for place, layer in enumerate(given.layers):
        mean, deviation = shown[:, place].mean(dim=0), shown[:, place].std(dim=0)
        line, offset = fitted((shown[:, place] - mean) / deviation, _unknown(bank))
        scores = ((tried[:, place] - mean) / deviation) @ line + offset
        found = separation(scores[~_unknown(held_out)], scores[_unknown(held_out)])
        rows.append([str(layer), f"{found.area:.3f}", f"{found.answered:.3f}"])
    heads = ["layer", "area under the curve", f"unknowns answered, {DECLINED:.0%} declined"]
    print("\n".join(markdown_table(heads, rows)))


if __name__ == "__main__":
    with errors_in_one_line():
        main()
