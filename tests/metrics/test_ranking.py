"""Mean average precision, by hand and against torchmetrics' own."""

import pytest
import torch
from torchmetrics.functional.classification import binary_average_precision

from vidmamba.metrics import MeanAveragePrecision
from vidmamba.metrics.ranking import average_precision


def test_precision_is_averaged_over_the_relevant_as_worked_by_hand() -> None:
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    relevant = torch.tensor([True, False, True, False])
    assert float(average_precision(scores, relevant)) == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_equal_scores_come_together_in_any_order() -> None:
    relevant = torch.tensor([True, False, False, True])
    for order in ([0, 1, 2, 3], [1, 2, 3, 0], [3, 2, 1, 0]):
        scores = torch.tensor([0.5, 0.5, 0.5, 0.1])
        found = average_precision(scores[order], relevant[order])
        assert float(found) == pytest.approx((1 / 3 + 2 / 4) / 2)


@pytest.mark.parametrize("videos", [1, 2, 37])
def test_it_is_what_torchmetrics_says(videos: int) -> None:
    scores = (torch.rand(videos) * 10).round() / 10  # with ties
    relevant = torch.rand(videos) < 0.4
    relevant[0] = True
    expected = binary_average_precision(scores, relevant.int())
    torch.testing.assert_close(average_precision(scores, relevant), expected)


def test_a_class_that_no_video_has_is_left_out_of_the_mean() -> None:
    metric = MeanAveragePrecision()
    metric.update(torch.tensor([[0.9, 0.1, 0.3], [0.8, 0.2, 0.1]]), torch.tensor([0, 1]))
    metric.update(torch.tensor([[0.7, 0.3, 0.2]]), torch.tensor([[0, 1, 0]]))
    # class 0: its one video comes first; class 1: both of its videos do; class 2: none has it
    assert float(metric.compute()) == pytest.approx(1.0)
    metric.update(torch.tensor([[0.95, 0.0, 0.0]]), torch.tensor([2]))
    # now class 0's comes second, and class 2's last of four, after 0.3, 0.2, 0.1
    assert float(metric.compute()) == pytest.approx((1 / 2 + 1 + 1 / 4) / 3)


def test_no_videos_are_refused() -> None:
    warned = pytest.warns(UserWarning, match="before the ``update`` method")  # by torchmetrics
    with warned, pytest.raises(ValueError, match="one video or more"):
        MeanAveragePrecision().compute()
