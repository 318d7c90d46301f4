"""From playlist files to a published release."""
