"""L4: what people see on standard error, made from counters and summaries."""
