"""L4: a run as one page of HTML, from its records."""
