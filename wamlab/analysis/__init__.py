"""One module per study: what the notebooks call; returns tables and Findings."""
