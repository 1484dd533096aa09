"""L2: how one request reaches a server, one file per library; :mod:`fetcher.transport.base` is what they share."""
