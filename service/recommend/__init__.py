"""From a query to a ranked and explained recommendation."""
