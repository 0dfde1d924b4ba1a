"""One page that shows a run, from its data to its answers: self-contained HTML."""
