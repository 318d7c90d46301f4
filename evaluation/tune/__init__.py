"""Parameter tuning on validation playlists."""
