"""Finding and opening files: discovery, decompression and encodings."""
