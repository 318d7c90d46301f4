"""Interceptors of a call, each with one job.

`authentication` runs before the message of a call is read, for all gRPC services except health. The
others run around the methods of `Recommender`, in this order, the first outermost: `log`,
`tracing`, `metrics`, `errors`, `deadline`, `admission`.
"""
