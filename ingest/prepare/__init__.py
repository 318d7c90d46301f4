"""Preparation: makes playlists from rows, and splits them into training, validation and test."""
