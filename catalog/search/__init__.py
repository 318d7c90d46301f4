"""Searches: their plan, the same for both stores, and the recall of the vector index."""
