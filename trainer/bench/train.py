"""`lyceum bench train`: our loop beside the bare one and other people's, on the same recipe.

Ours and the bare loop run in alternating pairs in this process; each other peer after them in a
process of its own, on batches that lie on its device beforehand, which only favours it.
"""

import dataclasses
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from trainer.addresses import redacted_values
from trainer.bench.clock import TIMED_STEPS, WARMUP_STEPS
from trainer.bench.comparison import BARE, LoopComparison, compare
from trainer.bench.peers import MODULES
from trainer.bench.peers.process import SECONDS
from trainer.bench.tokens import made_recipe, vocabulary
from trainer.bench.train_report import plot, print_report
from trainer.errors import DataError, RecipeError
from trainer.files import write_output
from trainer.parallel.join import choose_device
from trainer.plan.size import flops_per_token, parameter_count
from trainer.recipe import Recipe
from trainer.sources import open_sources

PEERS = (BARE, *MODULES)
VARIANTS = {"eager": {"kernels.compile": "none"}, "compiled": {"kernels.compile": "layer"}}
"""Ours, by the keys that differ."""


def bench_command(
    recipe: Recipe,
    pairs: int,
    json_file: Path | None,
    *,
    peers: str = BARE,
    ours: str = "",
    made: bool = False,
    steps: int = TIMED_STEPS,
    plot_file: Path | None = None,
    peer_seconds: float = SECONDS,
) -> None:
    """Print speed and memory of the recipe in one process, beside those of `peers`.

    `peers`: "all", "none", or names out of PEERS with commas; `ours`: names out of VARIANTS, or
    empty for the recipe as it is; `made`: train on made tokens instead of the recipe's corpora.
    `peer_seconds`: after which a peer is given up. The file is renewed after each peer.
    Raises RecipeError for a name that is none and for a recipe that needs more than one process,
    DataError where its corpora are missing, and what training raises.
    """
    some = {"all": list(PEERS), "none": []}
    names = some[peers] if peers in some else _chosen("--peers", peers, PEERS, ", all and none")
    variants: dict[str, dict[str, str]] = {"ours": {}}
    if ours:
        variants = {name: VARIANTS[name] for name in _chosen("--ours", ours, VARIANTS)}
    device = choose_device(recipe.device)
    recipe.validate_world(1, device.type)
    with _on_tokens(recipe, made, WARMUP_STEPS + steps) as ready:
        loops = {name: ready.replaced(keys) for name, keys in variants.items()}
        for comparison in compare(ready, loops, names, pairs, steps, device, peer_seconds):
            write_output(json_file, _figures(ready, comparison, made, steps))
        print_report(ready, comparison, made)
    if plot_file is not None:
        plot(ready, comparison, plot_file)


@contextmanager
def _on_tokens(recipe: Recipe, made: bool, steps: int) -> Iterator[Recipe]:
    """The recipe with corpora that are there and with its vocabulary."""
    if made:
        with tempfile.TemporaryDirectory(prefix="lyceum-made-") as folder:
            yield made_recipe(recipe, Path(folder), steps)
        return
    try:
        sources = open_sources(recipe)
    except DataError as error:
        raise DataError(f"{error}; or measure on made tokens with --made") from error
    yield recipe.replaced({"model.vocab": vocabulary(recipe, sources)})


def _chosen(option: str, chosen: str, known: Iterable[str], others: str = "") -> list[str]:
    """The names in `chosen`; RecipeError for one that is not known. `others`: what else may be."""
    names = list(dict.fromkeys(chosen.split(",")))
    for name in names:
        if name not in known:
            there = f"there is no {name!r}; there are {', '.join(known)}{others}"
            raise RecipeError(f"{option}: {there}")
    return names


def _figures(recipe: Recipe, comparison: LoopComparison, made: bool, steps: int) -> dict[str, Any]:
    vocab, best = recipe.model.vocab, comparison.best_peer
    assert vocab is not None
    peers = [
        {
            **dataclasses.asdict(peer),
            "ours_over_it": comparison.ratio(peer.timing) if peer.timing else None,
            "matrix_share": comparison.share(peer.timing) if peer.timing else None,
        }
        for peer in comparison.peers
    ]
    return {
        **dataclasses.asdict(comparison),
        "ours": dataclasses.asdict(comparison.ours),
        "peers": peers,
        "cost": comparison.cost,
        "matrix_share": comparison.share(comparison.ours),
        "best_peer": best.name if best else None,
        "ours_over_best": comparison.ratio(best.timing) if best and best.timing else None,
        "parameters": parameter_count(recipe.model, vocab)["total"],
        "flops_per_token": flops_per_token(
            recipe.model, recipe.sequence_length, vocab, recipe.lora
        ),
        "tokens_a_step": recipe.batch.sequences * recipe.sequence_length,
        "made_tokens": made,
        "recipe": redacted_values(recipe.model_dump(mode="json")),
        "steps_warmed_up": WARMUP_STEPS,
        "steps_timed": steps,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
