"""uptake pretrain lesiontracer | …: one command per method, each with its own options, in a file of its own."""

from __future__ import annotations

from cyclopts import App

pretrain = App(name="pretrain")
pretrain.command(
    "uptake.cli.pretrain_lesiontracer:lesiontracer",
    name="lesiontracer",
    help="One body on many labelled datasets of any channels and labels; gives a start for `uptake train --init`.",
)
pretrain.command(
    "uptake.cli.pretrain_petct_mae:petct_mae",
    name="petct_mae",
    help="Masked autoencoding of PET/CT without labels; gives a start for finetune, probe, label-curve and train.",
)
