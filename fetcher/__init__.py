"""Give it a list of URLs; get every file, whole, and one record per URL saying what happened."""

__version__ = "0.1.0"
