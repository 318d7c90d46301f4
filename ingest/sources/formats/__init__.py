"""Readers for delimited text, JSON and Parquet."""
