"""Running the service: processes, releases, metrics, traces and logs."""
