"""lm-eval's tasks as suites, and our model as one of lm-eval's: its harness, worn from inside.

lm-eval (the extra `evaluate`) makes the prompts of its tasks, filters what comes back and scores
it; items, records, resumption and intervals are those of every suite. `model.HarnessModel` reads
prompts exactly as lm-eval's own Hugging Face model does (HFLM), and is an lm-eval `LM` itself.

Source: Gao and others, "The Language Model Evaluation Harness", v0.4.13, 2026.
"""

from trainer.evaluate.harness.names import check_tasks
from trainer.evaluate.harness.task_suite import TaskSettings, task_suite

__all__ = ["TaskSettings", "check_tasks", "task_suite"]
