"""uptake evaluate"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from uptake.cli.console import say, table


def evaluate(
    prediction: Path,
    reference: Path,
    /,
    *,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    empty: Literal["nan", "one"] = "nan",
) -> None:
    """Compare masks with references: Dice, IoU, sensitivity, precision, volumes, false-positive and -negative volume.

    Parameters
    ----------
    prediction
        A mask, or a folder of masks (NAME.nii.gz, or NAME/lesions.nii.gz as `uptake segment` writes them).
    reference
        The reference, or a folder of references; each needs its prediction.
    out
        Folder for scores.csv and summary.json.
    empty
        A lesion-free reference has no Dice (nan, the official autoPET rule), or Dice 1 if nothing was predicted (one).
    """
    from uptake.workflows import evaluate as workflow

    if out is not None:
        from uptake.io.write import require_writable

        require_writable(out)
    rows = workflow.evaluate(prediction, reference, empty=empty)
    shown = {
        "case": "case",
        "dice": "Dice",
        "iou": "IoU",
        "reference_ml": "reference mL",
        "prediction_ml": "prediction mL",
    }
    shown |= {"fp_volume_ml": "FP mL", "fn_volume_ml": "FN mL"}
    plain = [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows]
    table(plain[:50], shown)
    for label, found in workflow.summary_of(rows).items():
        one = found["dice"]
        if one.n > 1:
            say(
                f"\n  {label}: mean Dice {one.mean:.4f} (95 % interval {one.low:.4f} to {one.high:.4f}), median "
                f"{one.median:.4f}, {one.n} cases; undefined in {one.undefined} (lesion-free reference, rule '{empty}')"
            )
    if out is not None:
        workflow.write_evaluation(rows, out)
        say(f"  {out / 'scores.csv'}")
