"""What captioning long videos from stored features costs, whatever their length.

python tools/bench_captions.py --checkpoint runs/errands_captioning/best.ckpt \
    --features demo/errands/features --frames 4500 54000

The features of a folder, one file after another and over again, make videos of so many frames,
stored as a file; each is read, captioned end to end (events, words, times) and timed, the median of
several. Memory is the most that CUDA held beside the model, on the CPU that of the process.
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidmamba.caption_inference import caption_features
from vidmamba.tasks.captioning import CaptioningTask
from vidmamba.tasks.checkpoints import load_captioning_task


def store_video(features: Path, frames: int, path: Path) -> None:
    """Write one video of so many frames, made of all the feature files of a folder."""
    files = sorted(p for p in features.glob("*.npy") if not p.name.endswith(".timestamps.npy"))
    if not files:
        raise SystemExit(f"{features} holds no feature files")
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < frames:
        parts.append(np.load(files[len(parts) % len(files)]))
    np.save(path, np.concatenate(parts)[:frames])


def measure(task: CaptioningTask, path: Path, fps: float, repeats: int) -> dict[str, Any]:
    """Caption a stored video a few times."""
    cuda = task.device.type == "cuda"
    seconds, captions = [], 0
    for turn in range(repeats + 1):
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()
        start = time.perf_counter()
        features = np.load(path)
        times = np.arange(len(features)) / fps
        captions = len(caption_features(task, features, times))
        if cuda:
            torch.cuda.synchronize()
        if turn:  # the first one compiles kernels
            seconds.append(time.perf_counter() - start)
    if cuda:
        peak = torch.cuda.max_memory_allocated() - held
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    took, frames = statistics.median(seconds), len(features)
    return {
        "frames": frames,
        "minutes": frames / fps / 60,
        "captions": captions,
        "seconds": took,
        "ms_per_frame": 1000 * took / frames,
        "ms_per_caption": 1000 * took / max(captions, 1),
        "peak_mib": peak / 2**20,
        "peak_kib_per_frame": peak / 2**10 / frames,
    }


def main() -> None:
    """Print a line a length."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True, help="folder of .npy files [T, D]")
    parser.add_argument("--frames", type=int, nargs="+", default=[4500, 54000])
    parser.add_argument("--fps", type=float, default=15.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    task = load_captioning_task(options.checkpoint)
    name = torch.cuda.get_device_name() if task.device.type == "cuda" else "CPU"
    print(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for frames in options.frames:
            path = Path(folder) / f"{frames}.npy"
            store_video(options.features, frames, path)
            rows.append(measure(task, path, options.fps, options.repeats))
            print(
                "{frames:6d} frames ({minutes:4.1f} min): {captions} captions in {seconds:.3f} s, "
                "{ms_per_frame:.4f} ms a frame, {ms_per_caption:.2f} ms a caption, peak "
                "{peak_mib:.0f} MiB, {peak_kib_per_frame:.1f} KiB a frame".format(**rows[-1]),
                flush=True,
            )
    if options.out is not None:
        options.out.write_text(json.dumps({"device": name, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
