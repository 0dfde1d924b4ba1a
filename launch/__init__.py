"""How a run starts: recipes, local and cluster launchers, committed benchmark results."""
