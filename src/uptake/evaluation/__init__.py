"""How good a prediction is, and what may be said of it.

`labels` scores all labels of two label maps at once; `overlap`, `surface` and `detection` hold the scores of one pair
of masks, `empty` the rules for masks without a voxel. `agreement` compares quantities, `image_quality` and
`organ_quality` images, `interactive` masks click by click. `statistics` and its neighbours turn scores into statements.
"""
