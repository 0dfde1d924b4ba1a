"""The compile gate: every kernel at its production sizes, compiled and read without a GPU."""
