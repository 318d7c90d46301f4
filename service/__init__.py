"""From a query playlist to an answer, and the gRPC server and client around it."""
