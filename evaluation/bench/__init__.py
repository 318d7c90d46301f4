"""Benchmarks of ingest, of the service, and of the search for misspelt names."""
