"""Observing a run: callbacks of the training loop, and the files that they write."""

from trainer.observe.callback import Callback, RunStart
from trainer.observe.environment import write_environment
from trainer.observe.log import RankLog
from trainer.observe.metrics import MetricsWriter, read_metrics, truncate_metrics
from trainer.observe.profile import Profiler
from trainer.observe.progress import ProgressBar
from trainer.observe.samples import SampleWriter
from trainer.observe.status import StatusWriter, read_status
from trainer.observe.throughput import Throughput, matrix_rate, memory_gib
from trainer.observe.trackers import TensorBoard, WeightsAndBiases
from trainer.observe.waits import Waits

__all__ = [
    "Callback",
    "MetricsWriter",
    "Profiler",
    "ProgressBar",
    "RankLog",
    "RunStart",
    "SampleWriter",
    "StatusWriter",
    "TensorBoard",
    "Throughput",
    "Waits",
    "WeightsAndBiases",
    "matrix_rate",
    "memory_gib",
    "read_metrics",
    "read_status",
    "truncate_metrics",
    "write_environment",
]
