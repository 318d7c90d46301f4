"""Reports of evaluations and comparisons: in the terminal, and as an HTML page."""
