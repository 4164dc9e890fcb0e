"""From a scan's own grid to the model's, and exactly back. NumPy and SciPy only."""
