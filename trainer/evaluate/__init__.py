"""What a model has learned, as numbers and as text: perplexity, baselines, sampling, generation."""
