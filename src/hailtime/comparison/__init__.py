"""Other learners beside the networks: the same rows, the same seeds, the same number of tuning trials."""
