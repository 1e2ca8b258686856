import math

import pytest
import torch
from torch import Tensor

from vidmamba.losses import segmentation_loss


def _videos(*lengths: int, classes: int = 5) -> list[tuple[Tensor, Tensor]]:
    return [
        (torch.randn(1, length, classes, dtype=torch.float64), torch.randint(classes, (1, length)))
        for length in lengths
    ]


def _by_hand(
    logits: Tensor, labels: Tensor, *, smoothing: float = 0.15, threshold: float = 4.0
) -> float:
    """Farha and Gall 2019, equations 5 to 7, for one video, in plain Python."""
    rows = [[math.log(p) for p in frame.softmax(-1).tolist()] for frame in logits[0]]
    cross_entropy = -sum(row[label] for row, label in zip(rows, labels[0].tolist(), strict=True))
    steps = [
        min(abs(after - before), threshold) ** 2
        for t in range(1, len(rows))
        for before, after in zip(rows[t - 1], rows[t], strict=True)
    ]
    return cross_entropy / len(rows) + smoothing * (sum(steps) / len(steps) if steps else 0.0)


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_one_video_costs_what_the_paper_writes(frames: int) -> None:
    [(logits, labels)] = _videos(frames)
    logits = 4 * logits  # some steps beyond the threshold, some within
    mask = torch.ones(1, frames, dtype=torch.bool)
    assert segmentation_loss(logits, labels, mask).item() == pytest.approx(_by_hand(logits, labels))


@pytest.mark.parametrize("filling", [0.0, 1e4, math.nan, math.inf])
def test_padding_changes_neither_the_loss_nor_a_gradient(filling: float) -> None:
    long, short = _videos(9, 4)
    logits = torch.full((2, 9, 5), filling, dtype=torch.float64)
    labels = torch.full((2, 9), -100)
    mask = torch.zeros(2, 9, dtype=torch.bool)
    for row, (video_logits, video_labels) in enumerate((long, short)):
        frames = video_labels.shape[1]
        logits[row, :frames], labels[row, :frames] = video_logits[0], video_labels[0]
        mask[row, :frames] = True
    logits.requires_grad_()
    loss = segmentation_loss(logits, labels, mask)
    loss.backward()
    # each mean runs over the frames, or neighbours, of both videos
    entropy = [_by_hand(*video, smoothing=0.0) for video in (long, short)]
    steps = [_by_hand(*video, smoothing=1.0) - entropy[i] for i, video in enumerate((long, short))]
    expected = (9 * entropy[0] + 4 * entropy[1]) / 13 + 0.15 * (8 * steps[0] + 3 * steps[1]) / 11
    assert loss.item() == pytest.approx(expected)
    assert logits.grad is not None
    assert logits.grad[~mask].eq(0).all()
    assert logits.grad[mask].isfinite().all()


def test_an_unlabelled_frame_is_smoothed_but_has_no_target() -> None:
    [(logits, labels)] = _videos(6)
    labels[0, 2] = -100
    mask = torch.ones(1, 6, dtype=torch.bool)
    known = [0, 1, 3, 4, 5]
    entropy = _by_hand(logits[:, known], labels[:, known], smoothing=0.0)
    smooth = _by_hand(logits, labels.clamp(min=0)) - _by_hand(
        logits, labels.clamp(min=0), smoothing=0
    )
    loss = segmentation_loss(logits, labels, mask)
    assert loss.item() == pytest.approx(entropy + smooth)


def test_a_batch_without_a_labelled_frame_costs_nothing_but_smoothing() -> None:
    [(logits, _)] = _videos(6)
    nothing = torch.full((1, 6), -100)
    mask = torch.ones(1, 6, dtype=torch.bool)
    assert segmentation_loss(logits, nothing, mask, smoothing=0.0).item() == 0.0
    weights = torch.ones(5)
    assert segmentation_loss(logits, nothing, ~mask, class_weights=weights).item() == 0.0


def test_the_gradient_of_smoothing_flows_into_the_later_frame_alone() -> None:
    logits = torch.randn(1, 2, 5, requires_grad=True)
    mask = torch.ones(1, 2, dtype=torch.bool)
    segmentation_loss(logits, torch.full((1, 2), -100), mask).backward()
    assert logits.grad is not None
    assert logits.grad[0, 0].eq(0).all()
    assert logits.grad[0, 1].ne(0).any()


def test_class_weights_weigh_frames_as_pytorch_does() -> None:
    [(logits, labels)] = _videos(8)
    weights = torch.rand(5, dtype=torch.float64)
    mask = torch.ones(1, 8, dtype=torch.bool)
    loss = segmentation_loss(logits, labels, mask, smoothing=0.0, class_weights=weights)
    assert loss.item() == pytest.approx(
        torch.nn.CrossEntropyLoss(weights)(logits[0], labels[0]).item()
    )


def test_autocast_and_bfloat16_logits_do_not_lower_the_precision() -> None:
    [(logits, labels)] = _videos(8)
    mask = torch.ones(1, 8, dtype=torch.bool)
    coarse = logits.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = segmentation_loss(coarse, labels, mask)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(_by_hand(coarse.double(), labels), rel=1e-6)
