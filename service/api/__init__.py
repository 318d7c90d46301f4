"""The methods of the gRPC API: validation, execution and responses."""
