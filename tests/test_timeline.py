import csv
import html
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vidmamba.timeline import (
    Caption,
    Segment,
    Timeline,
    labels_at,
    load_json,
    runs,
    save_csv,
    save_json,
    save_webvtt,
    segments_from_frames,
    timeline_from_dict,
    timeline_to_dict,
)

STRANGE = "切る & <b>--> \"x\", 'y'\n\n👩‍🍳 עברית"
CLOCK = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3})")


def _timeline() -> Timeline:
    return Timeline(
        video="küche/видео 🎬.mp4",
        duration=7300.0,
        fps=29.97,
        segments=(
            Segment(start=0.1, end=1 / 3, label="cut", score=0.25),
            Segment(start=1 / 3, end=2.0, label=STRANGE),
            Segment(start=3600.5, end=7300.0, label="pour"),
        ),
        captions=(
            Caption(start=0.0, end=5000.0, text="First <i>this</i>."),
            Caption(start=1.0, end=2.0, text=STRANGE, score=-3.5),
        ),
    )


def _span(start: float, end: float, label: str = "a") -> Segment:
    return Segment(start=start, end=end, label=label)


def test_runs_are_the_stretches_of_equal_labels() -> None:
    assert list(runs([])) == []
    assert list(runs([3])) == [(0, 1, 3)]
    assert list(runs(np.array([1, 1, 0, 0, 0, 1]))) == [(0, 2, 1), (2, 5, 0), (5, 6, 1)]


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (lambda: _span(-0.5, 1.0), "-0.5"),
        (lambda: _span(2.0, 2.0), "2.0"),
        (lambda: _span(3.0, 1.0), "3.0"),
        (lambda: _span(0.0, float("nan")), "nan"),
        (lambda: Segment(start=0.0, end=1.0, label="a", score=float("inf")), "inf"),
        (lambda: Caption(start=4.0, end=3.0, text="a"), "4.0"),
        (lambda: Timeline(video="v", duration=-1.0, fps=25.0, segments=()), "-1.0"),
        (lambda: Timeline(video="v", duration=1.0, fps=0.0, segments=()), "fps"),
        (
            lambda: Timeline(
                video="v", duration=9.0, fps=25.0, segments=(_span(0.0, 2.0), _span(1.0, 3.0))
            ),
            "overlap",
        ),
        (
            lambda: Timeline(
                video="v", duration=9.0, fps=25.0, segments=(_span(4.0, 5.0), _span(1.0, 3.0))
            ),
            "sorted",
        ),
        (lambda: Timeline(video="v", duration=2.0, fps=25.0, segments=(_span(0.0, 3.0),)), "2.0 s"),
    ],
)
def test_nonsense_is_refused_with_its_value(make: Callable[[], object], value: str) -> None:
    with pytest.raises(ValueError, match=re.escape(value)):
        make()


def test_json_gives_back_the_same_timeline_in_any_script(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "t.json"
    save_json(_timeline(), file)
    assert load_json(file) == _timeline()
    record = json.loads(file.read_bytes().decode("utf-8"))
    assert set(record) == {"video", "duration", "fps", "segments", "captions"}
    assert record["segments"][0] == {"start": 0.1, "end": 1 / 3, "label": "cut", "score": 0.25}
    assert set(record["captions"][0]) == {"start", "end", "text", "score"}


def test_json_keeps_a_file_name_that_is_no_unicode(tmp_path: Path) -> None:
    name = b"cam\xe9ra.avi".decode("utf-8", "surrogateescape")
    saved = Timeline(video=name, duration=1.0, fps=25.0, segments=())
    save_json(saved, tmp_path / "t.json")
    assert load_json(tmp_path / "t.json") == saved


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"video": "v"}', '{"video": "v", "duration": 1, "fps": 1, "segments": [{}]}'],
)
def test_a_file_that_is_no_timeline_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ValueError, match=r"bad\.json"):
        load_json(tmp_path / "bad.json")


def test_an_unknown_key_is_an_error() -> None:
    record = timeline_to_dict(_timeline())
    assert timeline_from_dict(record) == _timeline()
    assert timeline_from_dict(json.loads(json.dumps(record | {"duration": 7300}))) == _timeline()
    with pytest.raises(ValueError, match="colour"):
        timeline_from_dict(record | {"colour": "red"})


def test_csv_holds_every_segment_and_caption(tmp_path: Path) -> None:
    save_csv(_timeline(), tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["start", "end", "label", "score"]
    assert [row["kind"] for row in rows] == ["segment"] * 3 + ["caption"] * 2
    assert rows[1]["label"] == rows[4]["label"] == STRANGE
    assert float(rows[1]["start"]) == pytest.approx(1 / 3, abs=1e-6)
    assert float(rows[4]["score"]) == -3.5


def _cues(text: str) -> list[tuple[int, int, str]]:
    """Parse by WebVTT's grammar: header, then blocks of name, timing, one line of text."""
    header, *blocks = text.rstrip("\n").split("\n\n")
    assert header == "WEBVTT"
    cues = []
    for block in blocks:
        _, timing, payload = block.split("\n")
        times = []
        for clock in timing.split(" --> "):
            match = CLOCK.fullmatch(clock)
            assert match, clock
            hours, minutes, seconds, fraction = map(int, match.groups())
            times.append(((hours * 60 + minutes) * 60 + seconds) * 1000 + fraction)
        assert "-->" not in payload
        assert "<" not in payload
        assert re.fullmatch(r"(?:[^&]|&(?:amp|lt|gt);)+", payload)
        cues.append((times[0], times[1], payload))
    return cues


def test_webvtt_is_valid_monotone_and_escaped(tmp_path: Path) -> None:
    save_webvtt(_timeline(), tmp_path / "t.vtt")
    cues = _cues((tmp_path / "t.vtt").read_text(encoding="utf-8"))
    assert [start for start, _, _ in cues] == sorted(start for start, _, _ in cues)
    assert (3600500, 7300000, "pour") in cues
    escaped = "切る &amp; &lt;b&gt;--&gt; \"x\", 'y' 👩‍🍳 עברית"
    assert [text for _, _, text in cues].count(escaped) == 2


def test_a_webvtt_cue_lasts_even_when_its_segment_rounds_to_nothing(tmp_path: Path) -> None:
    tiny = Timeline(video="v", duration=1.0, fps=5000.0, segments=(_span(0.0001, 0.0002, " "),))
    save_webvtt(tiny, tmp_path / "t.vtt")
    assert _cues((tmp_path / "t.vtt").read_text()) == [(0, 1, "-")]


# sentences as people and models write them: each must come back from each format
CAPTIONS = (
    Caption(start=0.0, end=9.0, text="She says: 00:01.000 --> 00:02.000"),
    Caption(start=0.5, end=8.0, text="NOTE no comment"),
    Caption(start=0.5, end=8.0, text="WEBVTT"),
    Caption(start=1.0, end=2.0, text="one\rmore"),
    Caption(start=1.0, end=3.0, text='two\nlines\r\nor\rthree,\u2028"four";\tfive'),
    Caption(start=2.0, end=4.0, text="\n\n--> 切る 👩‍🍳 👍🏽 עברית ﷽ é"),
    Caption(start=2.0, end=2.5, text="a < b && c > d &amp; <v Ann> &lt;/v>"),
    Caption(start=2.5, end=2.5001, text="=1+1"),
)


def _captioned() -> Timeline:
    return Timeline(video="v", duration=9.0, fps=25.0, segments=(), captions=CAPTIONS)


def test_any_captions_come_back_from_webvtt_with_their_times_and_words(tmp_path: Path) -> None:
    save_webvtt(_captioned(), tmp_path / "t.vtt")
    content = (tmp_path / "t.vtt").read_bytes()
    assert b"\r" not in content
    cues = _cues(content.decode("utf-8"))
    # a cue has no line breaks: white space becomes one space, and all the rest is as it was
    assert [(start, end, html.unescape(text)) for start, end, text in cues] == [
        (round(c.start * 1000), max(round(c.end * 1000), round(c.start * 1000) + 1), words)
        for c in CAPTIONS
        for words in [" ".join(c.text.split())]
    ]


def test_any_captions_come_back_from_csv_and_json_as_they_were(tmp_path: Path) -> None:
    save_csv(_captioned(), tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    assert [(float(row["start"]), float(row["end"]), row["label"]) for row in rows] == [
        (c.start, c.end, c.text) for c in CAPTIONS
    ]
    table = pd.read_csv(tmp_path / "t.csv", lineterminator="\n")
    assert table["label"].tolist() == [c.text for c in CAPTIONS]
    save_json(_captioned(), tmp_path / "t.json")
    assert load_json(tmp_path / "t.json") == _captioned()


@pytest.mark.parametrize("save", [save_json, save_csv, save_webvtt])
def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, save: Callable[[Timeline, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "t.out"
    file.write_text("old")

    def _full(fd: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", _full)
    with pytest.raises(OSError, match="disk full"):
        save(_timeline(), file)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_segments_run_from_first_frame_to_next_ones_first_frame() -> None:
    times = np.array([0.0, 0.1, 0.4, 0.5, 2.0])  # variable rate
    segments = segments_from_frames(
        np.array([1, 1, 0, 0, 1]),
        times,
        class_names=("a", "b"),
        duration=3.5,
        scores=np.array([0.5, 1.0, 0.25, 0.25, 1.0], dtype=np.float32),
    )
    assert segments == (
        Segment(start=0.0, end=0.4, label="b", score=0.75),
        Segment(start=0.4, end=2.0, label="a", score=0.25),
        Segment(start=2.0, end=3.5, label="b", score=1.0),
    )


def test_dropped_classes_become_gaps() -> None:
    segments = segments_from_frames(
        np.array([-1, 0, 1, 0]),
        np.arange(4.0),
        class_names=("background", "a"),
        duration=4.0,
        drop=(0, -1),
    )
    assert segments == (_span(2.0, 3.0),)


def test_no_frames_no_segments() -> None:
    empty = np.array([], dtype=np.int64)
    assert segments_from_frames(empty, np.array([]), class_names=("a",), duration=1.0) == ()


@pytest.mark.parametrize(
    ("labels", "times", "value"),
    [
        ([0, 2], [0.0, 1.0], "2"),
        ([0, -1], [0.0, 1.0], r"\[-1\]"),
        ([0, 0], [1.0, 1.0], "1.0"),
        ([0, 0], [0.0, 9.0], "9.0"),
    ],
)
def test_wrong_frames_are_refused_with_their_values(
    labels: list[int], times: list[float], value: str
) -> None:
    with pytest.raises(ValueError, match=value):
        segments_from_frames(
            np.array(labels), np.array(times), class_names=("a", "b"), duration=5.0
        )


@pytest.mark.parametrize("num_frames", [1, 2, 37])
def test_labels_survive_the_way_to_segments_and_back(num_frames: int) -> None:
    generator = np.random.default_rng(num_frames)
    labels = generator.integers(-1, 4, num_frames)
    times = np.cumsum(generator.uniform(0.01, 2.0, num_frames))
    segments = segments_from_frames(
        labels, times, class_names="abcd", duration=float(times[-1]) + 0.5, drop=(-1,)
    )
    back = labels_at(segments, times, "abcd", default=-1)
    assert back.dtype == np.int64
    np.testing.assert_array_equal(back, labels)


def test_segments_are_half_open_when_read_at_a_time() -> None:
    segments = (_span(1.0, 2.0, "a"), _span(2.0, 3.0, "b"), _span(4.0, 5.0, "a"))
    times = np.array([4.5, 0.5, 1.0, 2.0, 2.999, 3.0, 3.5, 5.0])
    assert labels_at(segments, times, ("a", "b"), default=7).tolist() == [0, 7, 0, 1, 1, 7, 7, 7]
    assert labels_at((), times, (), default=7).tolist() == [7] * 8


def test_a_label_that_is_no_class_is_named() -> None:
    with pytest.raises(ValueError, match="'jump'"):
        labels_at((_span(0.0, 1.0, "jump"),), np.array([0.5]), ("a",), default=0)
