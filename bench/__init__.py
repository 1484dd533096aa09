"""The benchmarks: fetcher beside curl, aria2 and wget2, on one machine, in turns, every byte compared."""
