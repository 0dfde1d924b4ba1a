"""Kernel benchmarks: what is measured (one file a family), the measuring, the tables and plots."""
