"""`python -m launch.faults [--rounds N] [--minutes M] [--seed S] [--into DIR]`: break runs."""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from launch.faults.layouts import LAYOUTS, RunLayout, base_recipe, recipe_of, write_sources


def main(words: list[str] | None = None) -> int:
    """Play rounds; 0 where all passed, 1 where one did not."""
    parser = argparse.ArgumentParser(prog="python -m launch.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="at least so many (20)")
    parser.add_argument("--minutes", type=float, default=0.0, help="go on for so long")
    parser.add_argument("--seed", type=int, help="of the dice (the clock's)")
    parser.add_argument("--only", help="faults, comma between, in place of all")
    parser.add_argument("--layout", help="one of " + ", ".join(one.name for one in LAYOUTS))
    parser.add_argument("--steps-of-reference", type=int, help="another length, to see a failure")
    parser.add_argument("--into", type=Path, help="keep what the rounds leave here")
    given = parser.parse_args(words)
    seed = time.time_ns() % 1_000_000 if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="lyceum-faults-") as scratch:
        return _play(given, seed, given.into or Path(scratch))


def _play(given: argparse.Namespace, seed: int, folder: Path) -> int:
    from launch import warm
    from launch.faults.launcher import run_to_end
    from launch.faults.rounds import FAULTS, Round, RoundResult, hashes, told

    warm.load_deepspeed()
    sources = folder / "sources"
    sources.mkdir(parents=True, exist_ok=True)
    write_sources(sources)
    run_to_end(base_recipe(sources), 1, folder / "base.txt")
    undisturbed: dict[str, dict[str, str]] = {}
    layouts = [one for one in LAYOUTS if given.layout in (None, one.name)]
    faults = given.only.split(",") if given.only else list(FAULTS)
    deadline, failed = time.monotonic() + 60 * given.minutes, 0
    with told(folder / "rounds.jsonl") as tell:
        for number, (layout, fault) in enumerate(drawn(layouts, faults, random.Random(seed)), 1):
            if number > given.rounds and time.monotonic() > deadline:
                break
            if layout.name not in undisturbed:
                whole = folder / f"undisturbed-{layout.name}"
                recipe = recipe_of(layout, whole, sources)
                if given.steps_of_reference:
                    recipe = recipe.model_copy(update={"steps": given.steps_of_reference})
                run_to_end(recipe, layout.ranks, folder / "whole.txt")
                undisturbed[layout.name] = hashes(whole)
            dice = random.Random(f"{seed} {number}")
            where = folder / f"round-{number}"
            played = Round(number, layout, fault, dice, where, sources, undisturbed[layout.name])
            result: RoundResult = played.play()
            tell(result)
            failed += bool(result.faults)
    print(f"{failed} of {number - 1 if number > given.rounds else number} rounds failed")
    return int(failed > 0)


def drawn(
    layouts: list[RunLayout], faults: list[str], dice: random.Random
) -> Iterator[tuple[RunLayout, str]]:
    """Layouts and faults without end: every fault once before one comes again, layouts likewise."""
    layout_bag: list[RunLayout] = []
    fault_bag: list[str] = []
    while True:
        layout_bag = layout_bag or dice.sample(layouts, len(layouts))
        fault_bag = fault_bag or dice.sample(faults, len(faults))
        yield layout_bag.pop(), fault_bag.pop()


if __name__ == "__main__":
    sys.exit(main())
