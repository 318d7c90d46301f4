"""The versions of nextsong's gRPC API."""
