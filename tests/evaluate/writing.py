"""A tiny random model that writes, on as many ranks as are there."""

from typing import Any

from trainer.evaluate.generate import Generator, Vocabulary
from trainer.evaluate.sampling import Sampling
from trainer.model.transformer import build_model
from trainer.parallel.join import create_layout
from trainer.parallel.megatron import dissolve_groups
from trainer.recipe import Recipe

ROWS, SIZE, END = 128, 120, 0
PROMPTS = [[5, 6, 7], [], [9, 8, 7, 6, 5, 4, 3]]
# A beginning worth a pass of its own, and texts of which most reach the longest length early.
STEM = [1 + 7 * number % 100 for number in range(40)]
BRANCHES = [[*STEM, *range(5, 5 + tail)] for tail in (21, 20, 18, 3, 16, 14, 12, 2, 1)]
GREEDY = Sampling(tokens=12, temperature=0.0)
NEARLY_UNIFORM = Sampling(tokens=20, temperature=5.0)
UNENDING = Sampling(tokens=100, temperature=0.0)
SAMPLED = Sampling(tokens=12, temperature=0.8, top_k=20, top_p=0.9, seed=3)


def recipe_of(
    sequence_length: int = 64, window: dict[str, Any] | None = None, **parallel: Any
) -> Recipe:
    """Weights large enough that the most likely token is no near tie."""
    return Recipe.from_keys(
        {
            "run": "unused",
            "device": "cpu",
            "steps": 1,
            "sequence_length": sequence_length,
            "model": {
                **{"layers": 4, "hidden": 64, "heads": 4, "kv_heads": 4, "ffn": 128},
                **{"vocab": ROWS, "init_std": 0.2, **(window or {})},
            },
            "batch": {"sequences": 16},
            "optimizer": {"lr": 1e-3},
            "data": {"mixture": [{"corpus": "unused"}]},
            "parallel": parallel,
        }
    )


def write(
    layouts: list[dict[str, Any]], window: dict[str, Any] | None = None
) -> list[tuple[list[list[int]], list[list[int]]]]:
    """What this rank is told was written, greedily and sampled, at each layout in turn.

    `window`: those keys of the model section.
    """
    texts = []
    for parallel in layouts:
        generator = generator_of(recipe_of(window=window, **parallel))
        texts.append((generator(PROMPTS, GREEDY), generator(PROMPTS, SAMPLED)))
        dissolve_groups()
    return texts


def generator_of(recipe: Recipe) -> Generator:
    """The generator of the recipe's random model at the recipe's layout."""
    layout = create_layout(recipe)
    chunks = build_model(recipe, ROWS, layout)
    return Generator(chunks, recipe, layout, Vocabulary(SIZE, (END,), frozenset({END}), END))


def explore() -> dict[str, Any]:
    """On one rank: the same texts in several ways, by name."""
    texts: dict[str, Any] = {}
    generator = generator_of(recipe_of())
    texts["together"] = generator(PROMPTS, GREEDY)
    texts["alone"] = [generator([prompt], GREEDY)[0] for prompt in PROMPTS]
    texts["sampled"] = generator(PROMPTS, SAMPLED)
    texts["sampled again"] = generator(PROMPTS, SAMPLED)
    texts["sampled alone"] = [generator([prompt], SAMPLED)[0] for prompt in PROMPTS]
    texts["twice"] = generator([PROMPTS[0], PROMPTS[2], PROMPTS[0]], SAMPLED)
    texts["many"] = generator([[token] for token in range(1, 41)], NEARLY_UNIFORM)
    texts["branches"] = generator(BRANCHES, GREEDY)
    texts["branches, alone"] = [generator([prompt], GREEDY)[0] for prompt in BRANCHES]
    texts["no cache"] = [_token_by_token(generator, prompt) for prompt in PROMPTS]
    budget, generator._budget = generator._budget, 6
    texts["in pieces"] = generator(PROMPTS, GREEDY)
    generator._budget = budget
    generator._forward.multiple = 8
    texts["padded"] = generator(PROMPTS, GREEDY)
    dissolve_groups()
    short = generator_of(recipe_of(sequence_length=16))
    texts["short"] = short(PROMPTS, GREEDY)
    texts["short, alone"] = [short([prompt], GREEDY)[0] for prompt in PROMPTS]
    texts["short, unending"] = [
        [*short.continued([short.started(prompt) for prompt in PROMPTS], UNENDING, together)]
        for together in (1, 2, 3)
    ]
    for name, prompt in (("too long", [1] * 15), ("no row", [5, ROWS])):
        try:
            short([prompt], GREEDY)
        except Exception as error:
            texts[name] = f"{type(error).__name__}: {error}"
    dissolve_groups()
    return texts


def _token_by_token(generator: Generator, prompt: list[int]) -> list[int]:
    """The greedy text of a prompt, all of it read anew for every token."""
    text = list(prompt)
    for _ in range(GREEDY.tokens):
        text += generator([text], Sampling(tokens=1, temperature=0.0))[0]
    return text[len(prompt) :]
