"""How good a prediction is: `overlap` scores pairs of masks, `statistics` turns scores into statements."""
