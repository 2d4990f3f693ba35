"""A run folder in, a verified live model out: the model repository and Triton."""
