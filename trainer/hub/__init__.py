"""Models, tokenizers and sets by their names on the Hugging Face hub, through its own package."""
