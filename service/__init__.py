"""Recommend songs for a query, and serve the recommendations over gRPC."""
