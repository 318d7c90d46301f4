"""The `nextsong` command: gathers the commands of all packages."""
