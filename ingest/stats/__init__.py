"""Statistics of the playlists of an ingest run, as figures and as an HTML page."""
