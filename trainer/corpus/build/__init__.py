"""The chain that makes a corpus: each step whole or absent, one process a task, resumable."""
