"""Readers for delimited text, JSON, Parquet, M3U and XSPF."""
