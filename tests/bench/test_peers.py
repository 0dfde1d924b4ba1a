"""A peer's figure counts only where it trains the same model as well as it can, or says why not."""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from tests.parity.ranks import on_ranks
from tests.training.runs import recipe_of
from trainer.bench.bare import BareModel, bare_model
from trainer.bench.peers import MODULES, peer, process
from trainer.bench.peers.__main__ import measured
from trainer.bench.peers.liger import llama
from trainer.bench.peers.peer import Built
from trainer.bench.peers.process import half, run_peer
from trainer.bench.peers.training import Training
from trainer.bench.tokens import made_recipe
from trainer.errors import RecipeError
from trainer.loop import train
from trainer.plan.size import parameter_count
from trainer.recipe import Recipe

CPU = torch.device("cpu")

described = import_module("trainer.bench.peers.peer")


def random_rows(rows: int = 8, sequence: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    tokens = torch.randint(384, (rows, sequence + 1), generator=torch.Generator().manual_seed(0))
    positions = torch.arange(sequence).expand(rows, -1)
    return tokens[:, :-1], tokens[:, 1:], positions


def logits_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")


def test_the_compiled_peer_computes_the_bare_models_loss(tmp_path: Path) -> None:
    """Catches a peer that is fast because it leaves something out."""
    built = peer("bare-compiled").build(recipe_of(tmp_path, tmp_path), CPU)
    assert isinstance(built.model, BareModel)
    tokens, labels, positions = random_rows()
    with torch.compiler.set_stance("force_eager"), torch.no_grad():
        loss, expected = (
            built.loss_sum(tokens, labels),
            logits_loss(built.model(tokens, positions), labels),
        )
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


def test_all_layers_share_one_compilation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a compilation a layer: minutes, and from the ninth on not compiled at all."""
    counter, compile_with = CompileCounter(), torch.compile

    def counted(*arguments: Any, **options: Any) -> Any:
        return compile_with(*arguments, **options, backend=counter)

    monkeypatch.setattr(torch, "compile", counted)
    torch._dynamo.reset()
    built = peer("bare-compiled").build(recipe_of(tmp_path, tmp_path, model__layers=12), CPU)
    tokens, labels, _ = random_rows(rows=2)
    for _ in range(2):
        built.loss_sum(tokens, labels)
    assert counter.frame_count == 2  # a block, and the head with the loss


def losses_of_both(recipe: Recipe, name: str) -> tuple[list[float], dict[str, Any]]:
    """Ours in six steps, and what the peer measured in as many."""
    with torch.compiler.set_stance("force_eager"):
        train(recipe)
        lines = (Path(recipe.run) / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in lines], measured(
            peer(name), recipe, CPU, steps=1
        )


def test_stock_megatron_learns_as_ours_does(tmp_path: Path) -> None:
    """Catches another model, batch, rate, decay or clipping than ours in the step of all peers."""
    recipe = made_recipe(
        recipe_of(tmp_path / "run", tmp_path, steps=6, checkpoint__save_final=False),
        tmp_path / "made",
        steps=6,
    )
    ours, stock = on_ranks(1, losses_of_both, recipe, "megatron-local")[0]
    assert stock["first_loss"] == pytest.approx(ours[0], abs=1e-5)
    assert stock["last_loss"] == pytest.approx(ours[5], abs=1e-5)  # after five updates
    assert ours[5] < ours[0] - 0.1


def test_transformers_llama_learns_a_batch_by_heart(tmp_path: Path) -> None:
    """Catches weights of another number, or some that the optimizer does not hold."""
    recipe = recipe_of(tmp_path, tmp_path, batch__micro=2)
    model = llama(recipe, CPU)
    built = Built(model, lambda tokens, labels: logits_loss(model(tokens).logits, labels), {})
    training = Training(built, recipe)
    assert training.parameters == parameter_count(recipe.model, 384)["total"]
    losses = [float(training.step(random_rows(), 1e-2)) for _ in range(10)]
    assert losses[-1] < losses[0] - 1.0


class Offset(nn.Module):
    """One weight that its loss pushes down without end."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 1))

    def loss(self, tokens: Tensor, labels: Tensor) -> Tensor:
        return (self.weight * (tokens * 0 + 1)).float().sum()


@pytest.mark.parametrize(("precision", "moves"), [("fp32", True), ("bf16", True), ("none", False)])
def test_small_updates_survive_bf16(tmp_path: Path, precision: str, moves: bool) -> None:
    """Catches masters in bf16, which stand still: half the memory and another training."""
    model = Offset()
    recipe = recipe_of(
        *(tmp_path, tmp_path), precision="fp32" if precision == "none" else precision
    )
    if precision == "none":  # negative control: bf16 without masters
        model.weight.data = model.weight.data.bfloat16()
    training = Training(Built(model, model.loss, {}), recipe)
    for _ in range(50):
        training.step(random_rows(), 1e-3)  # bf16's neighbour below 1 is 4e-3 away
    assert (model.weight.item() < 0.97) == moves


def test_reasons_are_known_before_a_process_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a peer that dies of a missing package, or trains another model than asked for."""
    plain = recipe_of(tmp_path, tmp_path)
    normed = recipe_of(tmp_path, tmp_path, model__qk_norm=True)
    tied = recipe_of(tmp_path, tmp_path, model__tied_embeddings=True)
    windowed = recipe_of(tmp_path, tmp_path, model__window=8)
    smoothed = recipe_of(tmp_path, tmp_path, loss__label_smoothing=0.1)
    monkeypatch.setattr(described, "find_spec", lambda _: None)
    missing = {name: peer(name).why_not(plain, CPU) for name in MODULES}
    assert missing["torchtitan"] == "torchtitan is not installed"
    assert missing["transformers-liger"] == "liger_kernel is not installed"
    assert missing["bare-compiled"] == ""
    monkeypatch.setattr(described, "find_spec", lambda _: object())
    assert "CUDA" in peer("transformers-liger").why_not(plain, CPU)
    assert peer("transformers-liger").why_not(plain, torch.device("cuda")) == ""
    assert peer("megatron-local").why_not(plain, CPU) == ""
    assert "qk_norm" in peer("megatron-local").why_not(normed, CPU)
    assert "tied" in peer("torchtitan").why_not(tied, CPU)
    assert "model.window" in peer("bare-compiled").why_not(windowed, CPU)
    assert "the keys of loss" in peer("bare-compiled").why_not(smoothed, CPU)
    for recipe in (windowed, smoothed):
        with pytest.raises(RecipeError, match="the bare loop that ours is compared with"):
            bare_model(recipe, 384, CPU)


def script(folder: Path, body: str) -> list[str]:
    """A command that stands in for a peer's process."""
    file = folder / "peer.py"
    file.write_text(
        "import json, os, sys\nname, request, answer = sys.argv[1:]\n"
        "micro = json.load(open(request))['recipe']['batch']['micro']\n" + body
    )
    return [sys.executable, str(file)]


@pytest.mark.parametrize(
    ("body", "seconds", "line"),
    [
        ("raise ValueError('no such thing')", 600.0, "exit code 1: ValueError: no such thing"),
        ("os.kill(os.getpid(), 9)", 600.0, "exit code -9: it said nothing"),
        ("import signal; signal.pause()", 1.0, "no answer within 1 s"),
    ],
)
def test_a_peers_death_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, seconds: float, line: str
) -> None:
    """Catches a crash, a kill or a hang of a peer that ends the whole benchmark."""
    monkeypatch.setattr(process, "_command", lambda: script(tmp_path, body))
    outcome = run_peer("bare-compiled", recipe_of(tmp_path, tmp_path), CPU, 1, seconds=seconds)
    assert outcome.timing is None
    assert outcome.problem is not None and line in outcome.problem


@pytest.mark.parametrize("fits", [1, 0])
def test_out_of_memory_is_tried_again_with_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: int
) -> None:
    """Catches a peer that is given up, or tried for ever, where a smaller micro-batch would do."""
    timing = {"step_seconds": 1.0, "tokens_per_second": 1.0, "memory_gib": None}
    body = (
        f"ran = {{'timing': {timing}, 'given': {{}}, 'parameters': 1, 'first_loss': 1.0,"
        " 'last_loss': 1.0}\n"
        "full = {'problem': 'CUDA out of memory', 'out_of_memory': True}\n"
        f"json.dump(ran if micro <= {fits} else full, open(answer, 'w'))"
    )
    monkeypatch.setattr(process, "_command", lambda: script(tmp_path, body))
    recipe = recipe_of(tmp_path, tmp_path, batch__sequences=12, batch__micro=6)
    outcome = run_peer("bare-compiled", recipe, CPU, 1)
    assert outcome.micro == 1
    if fits:
        assert outcome.out_of_memory == (6, 3) and outcome.timing is not None
    else:
        assert outcome.out_of_memory == (6, 3, 1)
        assert outcome.problem == "out of memory at micro 1"


def test_stock_attention_is_recomputed_where_its_scores_would_not_fit(tmp_path: Path) -> None:
    """Catches a peer made slower than it need be, or called out of memory for want of a setting."""
    module = import_module("trainer.bench.peers.megatron_local")
    recipe = recipe_of(tmp_path, tmp_path, batch__micro=2)
    scores = 4 * 2 * 4 * 32**2 * 6  # layers, micro, heads, places squared, bytes
    state = 18 * parameter_count(recipe.model, 384)["total"]
    assert module.chosen_recompute(recipe, 1.26 * (scores + state)) == "none"
    assert module.chosen_recompute(recipe, 1.24 * (scores + state)) == "attention"
    assert module.chosen_recompute(recipe, module.memory_of(CPU)) == "none"


def test_half_divides_the_batch() -> None:
    """Catches a micro-batch that leaves sequences over."""
    assert [half(micro, 12) for micro in (12, 6, 4, 3, 1)] == [6, 3, 2, 1, 1]
    assert half(5, 10) == 2


def test_a_peer_answers_from_its_own_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a request or an answer that does not survive the way between processes."""
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    recipe = made_recipe(recipe_of(tmp_path, tmp_path), tmp_path / "made", steps=7)
    outcome = run_peer("bare-compiled", recipe, CPU, 2)
    assert outcome.problem is None and outcome.timing is not None
    assert outcome.timing.step_seconds > 0
    assert outcome.given["precision"] == "fp32"
    assert outcome.first_loss is not None and outcome.last_loss is not None
    assert outcome.last_loss < outcome.first_loss
