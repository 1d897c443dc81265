"""When: the cumulative sparsity after each round."""
