"""The ingest job, which makes a release from playlist files and publishes the release."""
