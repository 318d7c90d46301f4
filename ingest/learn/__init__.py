"""Learning from playlists: vectors, co-occurrence weights, re-ranker, and model selection."""
