"""Releases on a Qdrant server."""
