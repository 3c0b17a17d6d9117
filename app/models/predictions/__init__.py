"""What the predictions of a model mean: outputs, intervals, and how true probabilities are."""
