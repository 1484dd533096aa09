"""L2: where bodies go, one file per kind of place; :mod:`fetcher.sinks.base` is what they share."""
