"""Synthetic playlists with the structure of real playlists, for the demo and benchmarks."""
