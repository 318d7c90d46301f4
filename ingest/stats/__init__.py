"""Statistics of the playlists of an ingest run, as JSON and as an HTML page."""
