"""From a raw video to its timeline, with a trained checkpoint."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Int
from rich.console import Console
from rich.progress import track

from vidmamba.caption_inference import caption_timeline
from vidmamba.config import differences, from_plain
from vidmamba.features.embed import embed_video, place_backbone
from vidmamba.features.store import StoredFeatures
from vidmamba.models.backbone import BackboneConfig, FrozenBackbone
from vidmamba.report.page import write_page
from vidmamba.tasks.captioning import CaptioningTask
from vidmamba.tasks.classification import ClassificationTask
from vidmamba.tasks.segmentation import FramePrediction, SegmentationTask
from vidmamba.timeline import Timeline, save_csv, save_json, save_webvtt, segments_from_frames

Trained = SegmentationTask | ClassificationTask | CaptioningTask


@dataclass(kw_only=True)
class PredictionReport:
    """What became of each video."""

    pages: dict[Path, Path] = field(default_factory=dict)
    """The HTML page of each video that was predicted."""

    damaged: dict[Path, str] = field(default_factory=dict)
    """What was lost of videos that are cut off or broken."""

    failed: dict[Path, str] = field(default_factory=dict)
    """Why a video could not be read, in one line."""


def backbone_of(task: Trained) -> FrozenBackbone:
    """Build the backbone that a checkpoint's features came from.

    Raises:
        ValueError: its features came from files, or the backbone's weights are not those it saw.
    """
    expected = task.feature_key.get("backbone")
    if expected is None:
        raise ValueError(
            "this checkpoint was trained on feature files that no backbone of ours made; "
            "it can be evaluated on such files, but not run on raw video"
        )
    backbone = place_backbone(from_plain(BackboneConfig, task.data["backbone"]))
    lines = differences(expected, backbone.identity)
    if lines:
        raise ValueError("the backbone is not the checkpoint's:\n  " + "\n  ".join(lines))
    return backbone


Label = Callable[[FramePrediction], Int[np.ndarray, " T"]]
"""From what a model says of a video's frames to their labels."""


def timeline_of(
    task: SegmentationTask, features: StoredFeatures, *, label: Label | None = None
) -> Timeline:
    """Name the actions of an embedded video, in seconds; by ``label``, or the likeliest classes."""
    if label is None:
        probabilities = task.probabilities(features.features)
        labels = probabilities.argmax(axis=-1)
    else:
        frames = task.predict_frames(features.features)
        probabilities, labels = frames.probabilities, label(frames)
    times = features.timestamps
    if features.fps is not None:
        # a frame that stays on screen answers for several ticks: the ticks are what was looked at
        times = times[0] + np.arange(len(times)) / features.fps
    rate = features.fps or len(times) / max(features.duration, 1e-3)
    # a container may claim less than its frames last, and the last frame lasts for a while too
    duration = max(features.duration, float(times[-1]) + 1 / rate)
    segments = segments_from_frames(
        labels,
        times,
        class_names=task.class_names,
        duration=duration,
        scores=probabilities[np.arange(len(labels)), labels],
    )
    return Timeline(
        video=features.video.name,
        duration=duration,
        fps=rate,
        segments=segments,
    )


def predict_videos(
    videos: Sequence[Path],
    task: SegmentationTask | CaptioningTask,
    out: Path,
    *,
    truths: Mapping[Path, Timeline] | None = None,
    scores: Mapping[Path, Mapping[str, float]] | None = None,
    features_of: Callable[[Path], StoredFeatures] | None = None,
    label: Label | None = None,
) -> PredictionReport:
    """Write ``out/<stem>.{json,csv,vtt,html}`` for each video; bad ones are reported, not fatal.

    Args:
        videos: the files.
        task: a trained model, of segments or of captions.
        out: folder of the results.
        truths: timelines known to be true, drawn beside the predicted ones.
        scores: figures to show on a video's page.
        features_of: where features come from; by default the checkpoint's backbone.
        label: labels the frames of a segmentation model; by default each has its likeliest class.
    """
    report = PredictionReport()
    features_of = features_of or _embedder(task)
    named = [*zip(videos, _stems(videos), strict=True)]
    for video, stem in track(named, "predict", console=Console(stderr=True)):
        try:
            features = features_of(video)
        except ValueError as error:
            report.failed[video] = str(error)
            continue
        if features.meta["damage"]:
            report.damaged[video] = features.meta["damage"]
        if isinstance(task, CaptioningTask):
            timeline = caption_timeline(task, features)
        else:
            timeline = timeline_of(task, features, label=label)
        for suffix, save in (("json", save_json), ("csv", save_csv), ("vtt", save_webvtt)):
            save(timeline, out / f"{stem}.{suffix}")
        page = out / f"{stem}.html"
        write_page(
            page,
            timeline=timeline,
            truth=(truths or {}).get(video),
            scores=(scores or {}).get(video),
            video=video,
            class_names=task.class_names,
        )
        report.pages[video] = page
    return report


@dataclass(kw_only=True)
class ClassReport:
    """What became of each video that was to be classified."""

    likeliest: dict[Path, str] = field(default_factory=dict)
    """The likeliest classes of each video, with their probabilities, in one line."""

    damaged: dict[Path, str] = field(default_factory=dict)
    """What was lost of videos that are cut off or broken."""

    failed: dict[Path, str] = field(default_factory=dict)
    """Why a video could not be read, in one line."""


def classify_videos(videos: Sequence[Path], task: ClassificationTask, out: Path) -> ClassReport:
    """Write ``out/<stem>.json`` for each video: its classes, the likeliest first."""
    report = ClassReport()
    features_of = _embedder(task)
    out.mkdir(parents=True, exist_ok=True)
    named = [*zip(videos, _stems(videos), strict=True)]
    for video, stem in track(named, "predict", console=Console(stderr=True)):
        try:
            features = features_of(video)
        except ValueError as error:
            report.failed[video] = str(error)
            continue
        if features.meta["damage"]:
            report.damaged[video] = features.meta["damage"]
        found = sorted(
            zip(task.probabilities(features.features), task.video_class_names, strict=True),
            reverse=True,
        )
        classes = [{"label": name, "score": round(float(p), 6)} for p, name in found]
        content = {"video": video.name, "classes": classes}
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (out / f"{stem}.json").write_text(text + "\n", encoding="utf-8")
        report.likeliest[video] = ", ".join(f"{name} {p:.2f}" for p, name in found[:3])
    return report


def _embedder(task: Trained) -> Callable[[Path], StoredFeatures]:
    backbone = backbone_of(task)
    fps = task.feature_key["fps"]
    return lambda video: embed_video(video, backbone, fps=fps)


def _stems(videos: Sequence[Path]) -> list[str]:
    """Name results after the videos; those that share a stem keep their suffix or a number too."""
    stems: list[str] = []
    for video in videos:
        candidates = [
            video.stem,
            video.name,
            *(f"{video.stem}-{k}" for k in range(2, len(videos) + 2)),
        ]
        stems.append(next(name for name in candidates if name not in stems))
    return stems
