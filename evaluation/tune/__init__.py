"""Tuning of parameters on validation playlists."""
