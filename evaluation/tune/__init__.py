"""Tuning of the ingest parameters on validation playlists."""
