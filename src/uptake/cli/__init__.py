"""The `uptake` command: one file per verb; each imports its workflow inside the function."""
