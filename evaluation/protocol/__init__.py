"""Held-out playlists and the cases made from them."""
