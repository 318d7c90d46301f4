"""Version 1 of the gRPC API: `recommender.proto` and the code generated from it."""
