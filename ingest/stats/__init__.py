"""Statistics of the playlists, as figures and as a page."""
