"""The gRPC server: authentication, admission, deadlines, errors and TLS."""
