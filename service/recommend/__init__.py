"""Compute a ranked and explained recommendation for a query."""
