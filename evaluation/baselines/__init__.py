"""Baselines, which learn from the training playlists of the release."""
