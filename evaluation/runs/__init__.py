"""The log of ingest, tuning and evaluation runs."""
