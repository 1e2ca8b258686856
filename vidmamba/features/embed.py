"""One video through a frozen backbone, decoding and embedding side by side."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from vidmamba.device import device_of
from vidmamba.features.key import feature_key
from vidmamba.features.store import StoredFeatures
from vidmamba.models.backbone import BackboneConfig, FrozenBackbone
from vidmamba.video.reader import Frames, VideoInfo, VideoReader

Decoder = Literal["auto", "decord", "pyav"]
_BATCH_BYTES = 2**27  # decoded frames that wait, whatever the video's size


class Embedded(NamedTuple):
    """Features of some consecutive frames: float16 [n, D], and seconds, float64 [n]."""

    features: Float[np.ndarray, "n D"]
    timestamps: Float[np.ndarray, " n"]


class FrameStream:
    """Frames of one video, decoded in a thread while the batch before is being embedded.

    Decoding starts at once. (decord runs in a process of its own inside ``VideoReader``; PyAV
    decodes without the interpreter's lock: a thread is enough here.)

    Args:
        video: The file.
        fps: Frames a second; None for every frame.
        decoder: As ``VideoReader`` takes it.
        batch_size: Frames decoded at once; fewer where they are large.
    """

    def __init__(
        self, video: Path, *, fps: float | None, decoder: Decoder, batch_size: int
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self._video, self._fps, self._decoder = video, fps, decoder
        self._batch_size = batch_size
        self._reader: VideoReader | None = None
        self._frames: Iterator[Frames] = iter(())
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decode")
        self._next: Future[Frames | None] = self._thread.submit(self._open)

    @property
    def info(self) -> VideoInfo:
        """The video's; waits for its first frames.

        Raises:
            VideoError: It cannot be read.
        """
        self._next.result()
        assert self._reader is not None
        return self._reader.info

    @property
    def damage(self) -> str | None:
        """What was lost, once all frames are through."""
        return None if self._reader is None else self._reader.damage

    def __iter__(self) -> Iterator[Frames]:
        while (frames := self._next.result()) is not None:
            self._next = self._thread.submit(next, self._frames, None)
            yield frames

    def close(self) -> None:
        """Wait for the batch under way, and end the decoder."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._reader is not None:
            self._reader.close()

    def _open(self) -> Frames | None:
        self._reader = VideoReader(self._video, decoder=self._decoder)
        info = self._reader.info
        fitting = _BATCH_BYTES // (info.width * info.height * 3)
        batch = max(1, min(self._batch_size, fitting))
        self._frames = self._reader.at_rate(self._fps, batch=batch)
        return next(self._frames, None)


def embed_frames(backbone: FrozenBackbone, frames: Frames) -> Embedded:
    """Embed decoded frames; one that stays on screen for several ticks is embedded once.

    Raises:
        ValueError: The features do not fit into float16.
    """
    new = np.ones(len(frames.timestamps), dtype=bool)
    new[1:] = np.diff(frames.timestamps) != 0
    device = backbone.transform.scale.device
    pixels = frames.pixels if new.all() else frames.pixels[new]
    features = backbone(torch.from_numpy(pixels).to(device)).half().cpu().numpy()
    if not np.isfinite(features).all():
        raise ValueError(f"{backbone.config.name} gives features beyond float16's range")
    return Embedded(features[np.cumsum(new) - 1], frames.timestamps)


def embed_video(
    video: str | Path,
    backbone: FrozenBackbone,
    *,
    fps: float | None,
    decoder: Decoder = "auto",
    batch_size: int = 64,
) -> StoredFeatures:
    """Features of a video, kept in memory: what ``extract_features`` would store.

    Args:
        video: The file.
        backbone: Embeds the frames, on the device where it is.
        fps: Frames a second; None for every frame.
        decoder: ``auto``, ``decord`` or ``pyav``.
        batch_size: Frames decoded at once.

    Raises:
        VideoError: The file cannot be read.
    """
    path = Path(video)
    stream = FrameStream(path, fps=fps, decoder=decoder, batch_size=batch_size)
    try:
        info = stream.info
        parts = [embed_frames(backbone, frames) for frames in stream]
        damage = stream.damage
    finally:
        stream.close()
    empty = Embedded(np.empty((0, backbone.width), np.float16), np.empty(0))
    features, timestamps = (np.concatenate(arrays) for arrays in zip(empty, *parts, strict=True))
    return StoredFeatures(
        features=features,
        timestamps=timestamps,
        fps=fps,
        duration=info.duration,
        video=path,
        meta={"key": feature_key(backbone.identity, fps=fps, decoder=decoder), "damage": damage},
    )


def place_backbone(
    backbone: BackboneConfig | FrozenBackbone, device: str = "auto"
) -> FrozenBackbone:
    """Build a backbone if need be; ``auto`` is CUDA where there is one, else the CPU."""
    if isinstance(backbone, FrozenBackbone):
        return backbone if device == "auto" else backbone.to(device)
    return FrozenBackbone(backbone).to(device_of(device))
