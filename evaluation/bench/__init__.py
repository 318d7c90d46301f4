"""Benchmarks of `nextsong ingest run` and of the service."""
