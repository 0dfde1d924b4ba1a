"""Sets of what a run's own model says, made before its first step.

`questions.py`: what is asked; `sampling.py`: asking it, resumed by question; `making.py`: the set
that becomes of it; `made_of.py`: whether it is there. It lies in the run's folder of its name:

| file | holds |
|---|---|
| `samples.jsonl` | a line a question: the model's texts, each with its verdict |
| `examples.jsonl` | the examples that are trained on |
| `set.json` | what they were made of: questions, base, keys, counts |
| `shards/` | the examples as tokens |
"""

from trainer.own_sets.made_of import are_made as are_made
from trainer.own_sets.making import ensure_own_sets as ensure_own_sets
from trainer.own_sets.questions import content_keys as content_keys
