"""`lyceum bench step`: the least time of each part of a step, and the time that it took."""
