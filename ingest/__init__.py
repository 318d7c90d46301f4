"""Ingest: makes a release from playlist files and publishes it."""
