import math

import pytest
import torch
from torch import Tensor

from vidmamba.losses import (
    boundary_loss,
    segmentation_loss,
    transcript_loss,
    transcript_of,
)


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


def test_the_boundary_loss_weighs_borders_and_the_rest_alike() -> None:
    logits = torch.tensor([[0.3, 1.5, -0.7, 0.2, -1.0, 0.9]])
    labels = torch.tensor([[0, 1, 1, 1, -100, 2]])  # what begins at the last frame, nobody knows
    mask = torch.ones(1, 6, dtype=torch.bool)
    border = math.log1p(math.exp(-1.5))
    inner = (math.log1p(math.exp(-0.7)) + math.log1p(math.exp(0.2))) / 2
    expected = (border + inner) / 2
    assert float(boundary_loss(logits, labels, mask)) == pytest.approx(expected, rel=1e-5)


def test_padding_adds_nothing_to_the_boundary_loss() -> None:
    logits, labels = torch.randn(2, 9), torch.randint(3, (2, 9))
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, 4:] = False
    loss = boundary_loss(logits, labels, mask)
    logits[1, 4:] = float("nan")
    assert torch.equal(boundary_loss(logits, labels, mask), loss)


def test_the_transcript_loss_sums_over_every_alignment() -> None:
    logits = torch.randn(1, 6, 4, dtype=torch.float64)
    transcript = torch.tensor([2, 0, 3])
    log_probabilities = logits[0].log_softmax(-1)
    likelihood = 0.0
    for first in range(1, 5):
        for second in range(first + 1, 6):
            labels = [2] * first + [0] * (second - first) + [3] * (6 - second)
            likelihood += math.exp(
                sum(float(log_probabilities[t, c]) for t, c in enumerate(labels))
            )
    mask = torch.ones(1, 6, dtype=torch.bool)
    loss = transcript_loss(logits, [transcript], mask)
    assert float(loss) == pytest.approx(-math.log(likelihood) / 6, rel=1e-6)


def test_the_transcript_loss_of_a_batch_is_the_mean_of_its_videos() -> None:
    logits = torch.randn(2, 7, 3)
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[0, 4:] = False
    transcripts = [torch.tensor([0, 2]), torch.tensor([1, 0, 1])]
    together = transcript_loss(logits, transcripts, mask)
    alone = [
        transcript_loss(logits[:1, :4], transcripts[:1], mask[:1, :4]),
        transcript_loss(logits[1:], transcripts[1:], mask[1:]),
    ]
    torch.testing.assert_close(together, torch.stack(alone).mean())


def test_a_transcript_that_cannot_be_is_refused() -> None:
    logits, mask = torch.randn(1, 2, 3), torch.ones(1, 2, dtype=torch.bool)
    for transcript, message in (([], "0 actions"), ([0, 1, 2], "3 actions"), ([1, 1], "twice")):
        with pytest.raises(ValueError, match=message):
            transcript_loss(logits, [torch.tensor(transcript, dtype=torch.long)], mask)


def test_a_transcript_is_the_order_of_the_labelled_frames() -> None:
    assert transcript_of(torch.tensor([3, 3, -100, 3, 1, 1, 3])).tolist() == [3, 1, 3]
