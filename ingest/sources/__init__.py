"""Readers that turn playlist files of any supported format into batches of rows."""
