"""The web page of `nextsong explore`, which shows one release of a store."""
