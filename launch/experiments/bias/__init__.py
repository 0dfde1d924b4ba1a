"""Counterfactual data against the bias gap: of a small model, and of SmolLM2."""
