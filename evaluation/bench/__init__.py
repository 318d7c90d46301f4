"""Benchmarks of ingest and service."""
