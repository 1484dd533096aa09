"""L3: the ways to get requests fetched."""
