"""Interceptors of a call, each with one job.

`authentication` runs before the message of a call is read and covers every service but health. The
others surround the methods of `Recommender`, from the outside in: `log`, `tracing`, `metrics`,
`errors`, `deadline`, `admission`.
"""
