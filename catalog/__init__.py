"""Releases (immutable published catalogs of songs), and the stores that keep them."""
