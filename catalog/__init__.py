"""What the writer and the readers of a release share: songs, manifest, schema, homes."""
