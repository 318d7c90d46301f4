"""Import path of earlier versions for `evaluation.systems.location.StoreLocation`."""

from evaluation.systems.location import StoreLocation as Place

__all__ = ["Place"]
