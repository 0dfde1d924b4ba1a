"""Breaks real runs at random moments, and holds what becomes of them against undisturbed ones.

`python -m launch.faults` plays rounds: a layout, a fault and a moment, drawn from a printed seed. A
round passes where every end of its run is told truly (exit code, status.json, the rank that was at
fault), nothing is left behind, and the weights at last are bitwise those of the undisturbed run.
"""
