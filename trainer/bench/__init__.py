"""Benchmarks of training: tokens/s, memory, and the cost of our loop over a bare one."""
