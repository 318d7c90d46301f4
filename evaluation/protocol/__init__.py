"""The evaluation protocol: the dataset, held-out cases and the check for leaks."""
