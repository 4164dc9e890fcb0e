"""Model bundles: a folder with a card and weights, found by name or path, checked before use."""
