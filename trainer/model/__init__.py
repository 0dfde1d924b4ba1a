"""The transformer: megatron-core's GPTModel through our ModuleSpec."""

import trainer.parallel.lazy_compile  # noqa: F401  (before any module here imports megatron-core)
