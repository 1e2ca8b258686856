"""`vidmamba extract`: embed the frames of videos once."""

from pathlib import Path
from typing import Literal

from vidmamba.commands.troubles import report_troubles
from vidmamba.features.extract import extract_features
from vidmamba.features.videos import expand_videos
from vidmamba.models.backbone import EMBEDDED, BackboneConfig


def extract(
    videos: list[str],
    *,
    out: Path,
    backbone: str = EMBEDDED,
    weights: str | None = None,
    image_size: int | None = None,
    pooling: Literal["average", "token"] = "average",
    fps: float | None = None,
    decoder: Literal["auto", "decord", "pyav"] = "auto",
) -> int:
    """Embed the frames of videos once, with a frozen backbone, into a feature store.

    A second run does nothing, a killed run goes on; broken videos are listed at the end.

    Args:
        videos: Video files, folders of them, or glob patterns.
        out: Folder of the store; its index.json lists what is there.
        backbone: Any image model of timm, by name.
        weights: embedded (for the default backbone), pretrained (from the hub), or a file; by
            default embedded where they exist, pretrained elsewhere.
        image_size: Pixels across, of the square that the backbone sees; its own by default.
        pooling: average over the picture, or the class token of a transformer.
        fps: Frames embedded a second; null for every frame.
        decoder: auto takes decord where it is right for the file, PyAV elsewhere.
    """
    config = BackboneConfig(
        name=backbone,
        weights=weights or ("embedded" if backbone == EMBEDDED else "pretrained"),
        image_size=image_size,
        pooling=pooling,
    )
    report = extract_features(
        expand_videos(videos), backbone=config, fps=fps, out=out, decoder=decoder
    )
    print(f"{len(report.done)} embedded, {len(report.skipped)} were there: {out / 'index.json'}")
    return report_troubles(report.damaged, report.failed)
