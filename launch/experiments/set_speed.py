"""CPU time to render and tokenise a set of three-turn conversations, here or at an earlier commit.

    taskset -c 0 env RAYON_NUM_THREADS=1 python launch/experiments/set_speed.py [--shortest WORDS]

The set has a tokenizer of 16,000 made of its own texts, and both are the same each time. To
compare with another commit, run this very file there with PYTHONPATH at that tree, in turn.
"""

import argparse
import json
import os
import random
import tempfile
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

SYLLABLES = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]
TURNS = 3


def write_set(path: Path, conversations: int, shortest: int) -> float:
    """Write the set, answers two and a half times as long as questions; returns the mean number of
    characters of a message.
    """
    dice = random.Random(0)
    words = ["".join(dice.choices(SYLLABLES, k=dice.randint(1, 4))) for _ in range(8000)]
    characters = 0
    with path.open("w", encoding="utf-8") as file:
        for _ in range(conversations):
            turns = []
            for role, times in (("user", 1.0), ("assistant", 2.5)) * TURNS:
                length = round(times * dice.randint(shortest, 5 * shortest))
                text = " ".join(dice.choices(words, k=length)).capitalize() + "."
                characters += len(text)
                turns.append({"role": role, "content": text})
            file.write(json.dumps({"messages": turns}) + "\n")
    return characters / (2 * TURNS * conversations)


def main() -> None:
    """Write a set, build it once and print the CPU seconds of that."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", type=int, default=20_000)
    parser.add_argument("--shortest", type=int, default=8, help="words of the shortest question")
    parser.add_argument("--template", default="chatml", help="a file, or chatml")
    chosen = parser.parse_args()
    from trainer.data.tokenizer import train_tokenizer
    from trainer.recipe import Recipe

    # Where the builder stood before its folder.
    new = find_spec("trainer.conversations") is not None
    ensure_set = import_module(
        "trainer.conversations.sets" if new else "trainer.data.sets"
    ).ensure_set
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LYCEUM_CACHE"] = f"{folder}/cache"
        source = Path(folder) / "set.jsonl"
        mean = write_set(source, chosen.conversations, chosen.shortest)
        with source.open(encoding="utf-8") as lines:
            train_tokenizer(lines, 16_000).save(f"{folder}/tokenizer")
        recipe = Recipe.from_keys(
            {
                **{"stage": "sft", "run": f"{folder}/run", "steps": 1, "sequence_length": 8192},
                **{"model": {"layers": 1, "hidden": 8, "heads": 1, "ffn": 8}},
                **{"batch": {"sequences": 1}, "optimizer": {"lr": 1e-3}},
                "tokenizer": f"{folder}/tokenizer",
                "data": {"mixture": [{"corpus": str(source)}]},
                "conversations": {"template": chosen.template},
            }
        )
        # What is imported at the first use is no part of a set.
        import transformers.utils.chat_template_utils  # noqa: F401

        begin = time.process_time()
        ensure_set(recipe, str(source))
        spent = time.process_time() - begin
    print(f"{chosen.conversations:,} conversations, {mean:.0f} characters a message: {spent:.2f} s")


if __name__ == "__main__":
    main()
