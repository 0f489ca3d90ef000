"""Chains on images on the CPU engine against OpenCV and torch, unfused: microseconds a crop, and ratios, above 1 where
ours take less.

Run ``python -m benchmarks.images [--threads 1 2] [--crops 1 10 100 600] [--sizes 128x64 224x224]``. Crops of random
sizes of an image of 1080 × 1920 pixels of three bytes are resized (bilinear), get their channels exchanged, are scaled
and normalised, and written as planes of f32 into a batch. OpenCV does that with a function for each step (``opencv``),
or with as few as it has (``blob``: resize, then ``dnn.blobFromImage``); ``torch`` interpolates and normalises floats.
What is not installed is left out.

Each number of threads has a process. All are run by turns and least times count.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ROWS, COLUMNS = 1080, 1920
BAR = 4.0
Run = Callable[[], Any]


def random_crops(rng: Any, count: int) -> Any:
    """(first row, first column, rows, columns) of as many, of 80 to 400 rows and 40 to 200 columns."""
    import numpy as np

    sizes = rng.integers((80, 40), (401, 201), (count, 2))
    return np.concatenate([rng.integers(0, (ROWS, COLUMNS) - sizes + 1), sizes], axis=1).astype(np.int32)


def ours(image: Any, crops: Any, size: tuple[int, int]) -> Run:
    import numpy as np

    from kernels_zoo.images.batch import Processor
    from kernels_zoo.images.chain import Chain
    from kernels_zoo.images.reads import bilinear
    from kernels_zoo.images.steps import normalise, swapped

    processor = Processor(Chain((bilinear,), (swapped, normalise(MEAN, DEVIATION, 1 / 255))), image, size)
    out = np.empty((len(crops), 3, *size), np.float32)
    return lambda: processor(crops, out)


def opencv(image: Any, crops: Any, size: tuple[int, int]) -> Run:
    import cv2  # type: ignore[import-not-found]
    import numpy as np

    out = np.empty((len(crops), 3, *size), np.float32)
    scale, mean, deviation = (1 / 255,) * 4, (*MEAN, 0.0), (*DEVIATION, 1.0)

    def run() -> Any:
        for planes, (top, left, rows, columns) in zip(out, crops.tolist(), strict=True):
            x = cv2.resize(image[top : top + rows, left : left + columns], size[::-1], interpolation=cv2.INTER_LINEAR)
            x = cv2.cvtColor(x, cv2.COLOR_BGR2RGB).astype(np.float32)
            x = cv2.divide(cv2.subtract(cv2.multiply(x, scale), mean), deviation)
            cv2.split(x, list(planes))
        return out

    return run


def blob(image: Any, crops: Any, size: tuple[int, int]) -> Run:
    """One deviation for all channels is all that it knows: a product more for each."""
    import cv2
    import numpy as np

    out = np.empty((len(crops), 3, *size), np.float32)
    mean = tuple(255 * m for m in MEAN)
    factors = np.array([1 / 255 / d for d in DEVIATION], np.float32)[:, None, None]

    def run() -> Any:
        for planes, (top, left, rows, columns) in zip(out, crops.tolist(), strict=True):
            x = cv2.resize(image[top : top + rows, left : left + columns], size[::-1], interpolation=cv2.INTER_LINEAR)
            np.multiply(cv2.dnn.blobFromImage(x, 1.0, size[::-1], mean, swapRB=True)[0], factors, out=planes)
        return out

    return run


def torch_chain(image: Any, crops: Any, size: tuple[int, int]) -> Run:
    import torch

    whole = torch.from_numpy(image)
    mean, deviation = (torch.tensor(v)[:, None, None] for v in (MEAN, DEVIATION))
    out = torch.empty(len(crops), 3, *size)

    def run() -> Any:
        for planes, (top, left, rows, columns) in zip(out, crops.tolist(), strict=True):
            x = whole[top : top + rows, left : left + columns].permute(2, 0, 1)[None].float()
            x = torch.nn.functional.interpolate(x, size, mode="bilinear")[0].flip(0)
            torch.div(x / 255 - mean, deviation, out=planes)
        return out.numpy()

    return run


PEERS = {"opencv": ("cv2", opencv), "blob": ("cv2", blob), "torch": ("torch", torch_chain)}


def least(runs: dict[str, Run], seconds: float) -> dict[str, float]:
    """Seconds of each, by turns."""
    best = dict.fromkeys(runs, float("inf"))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or float("inf") in best.values():
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def worker(options: argparse.Namespace, threads: int) -> None:
    import numpy as np

    import tilus as tl

    tl.set_num_threads(threads)
    there = {name: make for name, (module, make) in PEERS.items() if importlib.util.find_spec(module)}
    if "opencv" in there:
        import cv2

        cv2.setNumThreads(threads)
    if "torch" in there:
        import torch

        torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (ROWS, COLUMNS, 3), np.uint8)
    for text in options.sizes:
        rows, columns = map(int, text.split("x"))
        size = rows, columns
        for count in options.crops:
            crops = random_crops(rng, count)
            runs = {"ours": ours(image, crops, size), **{n: make(image, crops, size) for n, make in there.items()}}
            first = {name: np.array(run()) for name, run in runs.items()}
            far = max(float(np.abs(x - first["ours"]).max()) for x in first.values())
            assert far < 0.05, f"results differ by {far}"  # OpenCV rounds to bytes between
            best = least(runs, options.seconds)
            line = ", ".join(f"{n} {1e6 * s / count:.1f} us ({s / best['ours']:.2f})" for n, s in best.items()
                             if n != "ours")
            low = "" if best.get("opencv", BAR * best["ours"]) >= BAR * best["ours"] else f", below {BAR:.0f}"
            mine = f"ours {1e6 * best['ours'] / count:7.1f} us"
            print(f"{threads} threads  {text:8} {count:4} crops: {mine}; {line}{low}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--crops", type=int, nargs="+", default=[1, 10, 100, 600])
    parser.add_argument("--sizes", nargs="+", default=["128x64", "224x224"])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--worker", action="store_true")
    options = parser.parse_args()
    if options.worker:
        worker(options, options.threads[0])
        return
    for threads in options.threads:
        command = [sys.executable, "-m", "benchmarks.images", "--worker", "--threads", str(threads),
                   "--seconds", str(options.seconds), "--crops", *map(str, options.crops), "--sizes", *options.sizes]
        subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": str(threads)}, check=True)


if __name__ == "__main__":
    main()
