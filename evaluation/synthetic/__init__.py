"""Synthetic playlists with the structure of real ones."""
