"""What is learned: each stage gives a batch stream and a loss over the model's output."""
