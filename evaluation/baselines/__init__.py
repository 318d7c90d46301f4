"""Baselines that learn from the release's own training playlists, and answer the same queries."""
