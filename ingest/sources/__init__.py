"""Playlist files of any supported format, read into batches of rows."""
