"""Looking at a corpus: what it holds, what was dropped, where a passage stands, if it is whole."""
