"""The build of a corpus: stages of parallel tasks, resumable, whose files are whole or absent."""
