"""megatron-core's pipeline schedules on one stage, where it would run none of them.

For machines with one GPU: the code of a schedule runs, and nothing is sent.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from megatron.core.pipeline_parallel import schedules
from megatron.core.utils import get_model_config

from trainer.parallel import schedule

Pipeline = Literal["1f1b", "interleaved"]


@contextmanager
def scheduled_by(pipeline: Pipeline) -> Iterator[None]:
    """Inside: `forward_backward` runs that schedule, whatever the pipeline's size."""
    chosen = schedule.get_forward_backward_func
    schedule.get_forward_backward_func = lambda: _SCHEDULES[pipeline]
    try:
        yield
    finally:
        schedule.get_forward_backward_func = chosen


def _interleaved(**arguments: Any) -> Any:
    """One chunk, given as the list of chunks that the interleaved schedule wants."""
    if isinstance(arguments["model"], list):
        return schedules.forward_backward_pipelining_with_interleaving(**arguments)
    arguments["data_iterator"] = [arguments["data_iterator"]]
    arguments["model"] = [arguments["model"]]
    config = get_model_config(arguments["model"][0])
    config.virtual_pipeline_model_parallel_size = 1
    try:
        return schedules.forward_backward_pipelining_with_interleaving(**arguments)
    finally:
        config.virtual_pipeline_model_parallel_size = None


_SCHEDULES: dict[Pipeline, Callable[..., Any]] = {
    "1f1b": schedules.forward_backward_pipelining_without_interleaving,
    "interleaved": _interleaved,
}
