"""Learning from playlists: Word2Vec, co-occurrence, the re-ranker, and model selection."""
