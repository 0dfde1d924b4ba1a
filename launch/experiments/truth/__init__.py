"""What lowers hallucination at which price: a cure of SmolLM2, measured step by step."""
