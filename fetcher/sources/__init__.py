"""L2: where rows come from, one file per form; :mod:`fetcher.sources.base` is what they share."""
