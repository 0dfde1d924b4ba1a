"""How a run is laid out: which rank holds what, and what each pipeline stage does when."""

from trainer.report.plots.layout_drawing import layout_drawing
from trainer.report.plots.schedule_drawing import schedule_drawing

__all__ = ["layout_drawing", "schedule_drawing"]
