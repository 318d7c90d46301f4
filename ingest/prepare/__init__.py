"""From rows to playlists, and their split into training, validation and test."""
