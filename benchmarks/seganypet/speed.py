"""Speed and memory of the promptable transformer at its published size, against the published computation.

python benchmarks/seganypet/speed.py STUDY --work WORK [--threads 1] [--rounds 3]

The same random weights go through three programs, one after the other on the same machine in the same run: the image
encoder as published (windows padded to 14³ tokens, attention over all of them, all heads at once), ours, and a whole
`uptake.Session` on STUDY with a first and further clicks. Writes speed.csv and speed.md beside this file.
"""

from __future__ import annotations

import argparse
import csv
import math
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

HERE = Path(__file__).parent
WINDOW = 14


def random_network():
    from uptake.methods import seganypet

    network = seganypet.build_network(seganypet.Config.published()).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "rel_pos" in name or "pos_embed" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network


def published_attention(attention, tokens):
    """One attention as published: every key of the padded window, the bias as SAM-Med3D computes it."""
    b, d, h, w, dim = tokens.shape
    heads, n = attention.heads, d * h * w
    qkv = attention.qkv(tokens).reshape(b, n, 3, heads, -1).permute(2, 0, 3, 1, 4).reshape(3, b * heads, n, -1)
    q, k, v = qkv.unbind(0)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    grid = q.reshape(b * heads, d, h, w, -1)
    along = []
    for axis, table in zip("dhw", (attention.rel_pos_d, attention.rel_pos_h, attention.rel_pos_w), strict=True):
        rows = table[torch.arange(d)[:, None] - torch.arange(d) + d - 1]
        along.append(torch.einsum(f"ndhwc,{axis}kc->ndhwk", grid, rows))
    scores = scores.view(b * heads, d, h, w, d, h, w)
    scores = (
        scores + along[0][:, :, :, :, None, None] + along[1][:, :, :, None, :, None] + along[2][:, :, :, None, None]
    )
    out = scores.view(b * heads, n, n).softmax(-1) @ v
    return attention.proj(out.view(b, heads, d, h, w, -1).permute(0, 2, 3, 4, 1, 5).reshape(b, d, h, w, dim))


def published_encode(network, image):
    """The whole image encoder as published."""
    encoder = network.image_encoder
    x = encoder.patch_embed(image) + encoder.pos_embed
    d, h, w = x.shape[1:4]
    for block in encoder.blocks:
        y = block.norm1(x)
        if block.attn.window:
            y = F.pad(y, (0, 0, 0, WINDOW - w, 0, WINDOW - h, 0, WINDOW - d))
        y = published_attention(block.attn, y)[:, :d, :h, :w]
        x = x + y
        x = x + block.mlp(block.norm2(x))
    return encoder.neck(x.movedim(-1, 1))


clock = time.process_time
"""Seconds of the processor: a machine that others use at the same time gives the same figures. With one thread they are
what a stop-watch shows on an idle machine."""


def median_of(function, rounds):
    times = []
    for _ in range(rounds):
        began = clock()
        result = function()
        times.append(clock() - began)
    return statistics.median(times), result


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def part(name, arguments):
    """Measure one program; called in a process of its own so that peak memory is its own."""
    torch.set_num_threads(arguments.threads)
    image = torch.randn(1, 1, 128, 128, 128, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        if name == "published":
            network = random_network()
            seconds, result = median_of(lambda: published_encode(network, image), arguments.rounds)
            torch.save(result.clone(), arguments.work / "published.pt")
            print(f"encode,{seconds},{peak_mb()}")
        elif name == "ours":
            network = random_network()
            network.encode(image)
            seconds, result = median_of(lambda: network.encode(image), arguments.rounds)
            print(f"encode,{seconds},{peak_mb()}")
            other = torch.load(arguments.work / "published.pt", weights_only=True)
            print(f"difference,{float((result - other).abs().max() / other.abs().max())},{math.nan}")
        else:
            session_part(arguments)


def session_part(arguments):
    import numpy as np

    import uptake
    from uptake.methods import seganypet
    from uptake.networks.unet import unique_state
    from uptake.workflows.session import Session
    from uptake.zoo.bundle import save_bundle
    from uptake.zoo.cards import Card

    config = replace(seganypet.Config.published(), preset="random")
    folder = arguments.work / "random-bundle"
    facts = dict.fromkeys(("summary", "suv", "licence", "package_version"), "random weights")
    card = Card("random", "1", method="seganypet", config=config.as_json(), plan=config.plan().as_json(),
                labels=["background", "object"], needs=["pet"], accepts=["pet"], training={}, scores=[],
                limits=["random"], files={}, stored_as="float32", **facts)  # fmt: skip
    if not (folder / "card.json").exists():
        save_bundle(card, {"0": unique_state(random_network())}, folder)
    session = Session(folder, max_fields=1, device="cpu")
    case = session.set_image(uptake.read(arguments.study, labels=False))
    hot = np.argwhere(case.pet.array > 0.5 * np.percentile(case.pet.array, 99.9))
    middle = hot[np.linalg.norm(hot - hot.mean(axis=0), axis=1).argmin()]
    clicks = [middle, *(middle + step for step in ([4, 0, 0], [0, 4, 0], [0, 0, 4], [-4, 0, 0]))]
    times = []
    for number, place in enumerate(clicks):
        began = clock()
        session.add_point(place.tolist(), positive=number == 0)
        session.predict()
        times.append(clock() - began)
    print(f"first click,{times[0]},{peak_mb()}")
    print(f"further click,{statistics.median(times[1:])},{peak_mb()}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("study", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.part:
        part(arguments.part, arguments)
        return
    rows = []
    for name in ("published", "ours", "session"):
        command = [sys.executable, __file__, str(arguments.study), "--work", str(arguments.work), "--part", name,
                   "--threads", str(arguments.threads), "--rounds", str(arguments.rounds)]  # fmt: skip
        for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
            what, value, memory = line.split(",")
            rows.append({"program": name, "what": what, "value": float(value), "peak_mb": float(memory)})
            print(rows[-1], flush=True)
    with (HERE / "speed.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    at = {(row["program"], row["what"]): row for row in rows}
    old, new = at["published", "encode"], at["ours", "encode"]
    gain = old["value"] / new["value"]
    lines = [
        f"Window 128³, 100.5 M parameters, float32, {arguments.threads} thread(s), processor seconds, median of "
        f"{arguments.rounds}.", "",
        "| | published computation | uptake |", "|---|---|---|",
        f"| encode a window, s | {old['value']:.2f} | {new['value']:.2f} ({gain:.1f} times faster) |",
        f"| peak memory, MB | {old['peak_mb']:.0f} | {new['peak_mb']:.0f} |",
        f"| largest difference, share of the largest value | | {at['ours', 'difference']['value']:.1e} |",
        f"| Session on a whole-body scan, first click, s | | {at['session', 'first click']['value']:.2f} |",
        f"| … further click in the same window, s | | {at['session', 'further click']['value']:.2f} |",
        f"| … peak memory with the scan, MB | | {at['session', 'further click']['peak_mb']:.0f} |",
    ]  # fmt: skip
    (HERE / "speed.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
