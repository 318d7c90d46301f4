"""The web page of `nextsong explore`, on one release of a store."""
