"""Input gate: is this scan fit for use, and why or why not."""
