"""What the network sees while it learns: splits, windows, augmentation. Draw first, apply second."""
