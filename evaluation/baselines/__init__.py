"""Baselines: simple recommenders that learn from the same training playlists as the release."""
