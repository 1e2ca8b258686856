"""The folder of an errands data set: made once, in pieces that are whole or absent."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vidmamba.datasets.errands.config import ErrandsConfig
from vidmamba.datasets.errands.grammar import write_script
from vidmamba.datasets.errands.plan import ClipPlan, plan_clips
from vidmamba.datasets.errands.render import render
from vidmamba.datasets.errands.script import (
    CLASS_NAMES,
    MEMORY_CLASSES,
    Errand,
    frame_labels,
)
from vidmamba.datasets.errands.sentences import describe_person, write_sentences
from vidmamba.timeline import runs
from vidmamba.video.writer import VideoWriter

ANNOTATIONS = "annotations.json"
FORMAT = "vidmamba-errands-2"

_STARTED = "config.json"
_CRF, _PRESET = 28, "ultrafast"


def generate_errands(
    out: str | Path,
    config: ErrandsConfig,
    *,
    processes: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Render and encode the clips of an errands data set into a folder, and annotate them.

    `annotations.json` comes last: a folder without it is not a whole data set. Called again after
    it was stopped, it goes on with the clips that are missing; called again on a whole folder, it
    does nothing.

    Args:
        out: the folder; it is made.
        config: the dials; the same dials give the same bytes.
        processes: how many render at a time; the result does not depend on it.
        progress: called with (clips done, clips in all) after each clip.

    Returns:
        The path of `annotations.json`.

    Raises:
        ValueError: the folder holds a data set of other dials, or `processes` is not positive.
    """
    if processes < 1:
        raise ValueError(f"processes must be 1 or more, got {processes}")
    root = Path(out)
    root.mkdir(parents=True, exist_ok=True)
    _claim(root, config)
    annotations = root / ANNOTATIONS
    if annotations.exists():
        return annotations
    plan = plan_clips(config)
    missing = [clip for clip in range(config.videos) if not (root / clip_file(clip)).exists()]
    done = config.videos - len(missing)
    for _ in _made(root, config, plan, missing, processes):
        done += 1
        if progress is not None:
            progress(done, config.videos)
    notes = {
        "format": FORMAT,
        "config": asdict(config),
        "class_names": CLASS_NAMES,
        "memory_classes": MEMORY_CLASSES,
        "videos": [_annotate(config, clip, plan[clip]) for clip in range(config.videos)],
    }
    _write_json(annotations, notes)
    return annotations


def clip_file(clip: int) -> str:
    """Return the file name of clip number `clip`."""
    return f"errand_{clip:04d}.mp4"


def _claim(root: Path, config: ErrandsConfig) -> None:
    """Note the dials in the folder before the first clip, or check them against the note there."""
    note, wanted = root / _STARTED, json.loads(json.dumps(asdict(config)))
    if not note.exists():
        if (root / ANNOTATIONS).exists():
            raise ValueError(f"{root} holds {ANNOTATIONS} of something else: choose another folder")
        _write_json(note, wanted)
        return
    found = json.loads(note.read_text())
    if found != wanted:
        differs = {
            key: (found.get(key), wanted[key]) for key in wanted if found.get(key) != wanted[key]
        }
        raise ValueError(
            f"{root} holds errands of other dials (there, wanted): {differs}; "
            "choose another folder, or remove it"
        )


def _made(
    root: Path,
    config: ErrandsConfig,
    plan: Sequence[ClipPlan],
    missing: Sequence[int],
    processes: int,
) -> Iterator[int]:
    """Make clips and yield the number of each that is made."""
    if processes == 1 or len(missing) < 2:
        for clip in missing:
            make_clip(root, config, clip, plan[clip])
            yield clip
        return
    # spawned, so that no thread of the caller's is forked
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(missing)), mp_context=context) as pool:
        clips = {pool.submit(make_clip, root, config, clip, plan[clip]): clip for clip in missing}
        try:
            for future in as_completed(clips):
                future.result()
                yield clips[future]
        finally:
            pool.shutdown(cancel_futures=True)


def make_clip(root: Path, config: ErrandsConfig, clip: int, plan: ClipPlan) -> None:
    """Render and encode one clip; the file appears under its name when it is whole."""
    width, height = config.size
    part = root / f".part-{clip_file(clip)}"
    script = write_script(config, clip, plan.outcomes, plan.gap)
    with VideoWriter(
        part, width=width, height=height, fps=config.fps, crf=_CRF, preset=_PRESET
    ) as writer:
        for frame in render(config, clip, script):
            writer.write(frame)
    os.replace(part, root / clip_file(clip))


def _annotate(config: ErrandsConfig, clip: int, plan: ClipPlan) -> dict[str, Any]:
    script = write_script(config, clip, plan.outcomes, plan.gap)
    stretches = [*runs(frame_labels(script))]
    return {
        "file": clip_file(clip),
        "split": plan.part,
        "fps": config.fps,
        "num_frames": script.num_frames,
        "segments": [
            {"start": start / config.fps, "end": end / config.fps, "label": CLASS_NAMES[label]}
            for start, end, label in stretches
        ],
        "captions": [
            {"start": caption.start, "end": caption.end, "text": caption.text}
            for caption in write_sentences(script, config.fps)
        ],
        "errands": [_describe(errand) for errand in script.errands],
        "frame_labels": [[CLASS_NAMES[label], end - start] for start, end, label in stretches],
    }


def _describe(errand: Errand) -> dict[str, Any]:
    return {
        "person": describe_person(errand.person),
        "thing": errand.thing.name,
        "shelf": "left" if errand.shelf < 0 else "right",
        "outcome": errand.outcome,
        "handled_frame": errand.handled,
        "leave_frame": errand.leaves,
    }


def _write_json(path: Path, value: Any) -> None:
    part = path.with_name(f".part-{path.name}")
    part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)
