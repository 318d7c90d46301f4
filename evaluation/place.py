"""Old import path of `evaluation.systems.location.StoreLocation`, kept for compatibility."""

from evaluation.systems.location import StoreLocation as Place

__all__ = ["Place"]
