"""Interceptors of calls. Each interceptor does one job.

`authentication` runs before the message of a call is read, for all gRPC services except health. The
other interceptors run around the methods of `Recommender`, in this order, the first one outermost:
`log`, `tracing`, `metrics`, `errors`, `deadline`, `admission`.
"""
