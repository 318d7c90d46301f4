"""Releases in a folder, served by Qdrant Edge in this process."""
