"""The rules that a document must pass on its way into a corpus, one a file, found by its name."""
