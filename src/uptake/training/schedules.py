"""Learning-rate schedules: a step number in, a rate out; no state."""

from __future__ import annotations

import math


def poly(step: int, steps: int, *, initial: float, epoch_steps: int = 1, power: float = 0.9) -> float:
    """Return ``initial · (1 - e/E) ** power``, constant within an epoch of `epoch_steps` steps (nnU-Net).

    With initial 1e-3 and 1,500 epochs: epoch 750 has 5.359e-4, the last one 1.385e-6.
    """
    epochs = max(1, math.ceil(steps / epoch_steps))
    return initial * (1.0 - min(step // epoch_steps, epochs - 1) / epochs) ** power


def warmup_cosine(step: int, steps: int, *, initial: float, warmup: int = 50, final_fraction: float = 0.01) -> float:
    """Return a rate that rises linearly over `warmup` steps, then falls along half a cosine to a hundredth."""
    if step < warmup:
        return initial * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return initial * (final_fraction + (1.0 - final_fraction) * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0))))


def multistep(
    step: int, steps: int, *, initial: float, milestones: tuple[float, ...] = (0.6, 0.9), factor: float = 0.1
) -> float:
    """Return a rate that falls by `factor` after each share of the steps in `milestones` (SegAnyPET: 120, 180 of 200
    epochs)."""
    return initial * factor ** sum(step >= round(share * steps) for share in milestones)
