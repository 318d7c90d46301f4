"""Benchmarks of ingest and of the service."""
