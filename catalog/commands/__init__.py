"""The commands that manage releases, and the options that all commands share."""
