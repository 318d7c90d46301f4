"""Plans of searches, independent of the store, and the recall of the vector index."""
