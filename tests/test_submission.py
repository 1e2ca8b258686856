"""ActivityNet's form of dense captions, written and read back."""

import json
from pathlib import Path

import pytest

from vidmamba.submission import read_submission, write_submission
from vidmamba.timeline import Caption

CAPTIONS = {
    "v_5n7NCViB5TU": (
        Caption(start=1.23, end=4.53, text="One player moves around the net."),
        Caption(start=2.0, end=18.23, text='切る 👩‍🍳 עברית "--> \\ \n <b>'),
    ),
    "v_none": (),
}


def test_a_submission_has_the_fields_that_the_evaluation_asks_for(tmp_path: Path) -> None:
    write_submission(CAPTIONS, tmp_path / "s.json", external_data="a backbone of ImageNet")
    record = json.loads((tmp_path / "s.json").read_bytes().decode("utf-8"))
    assert set(record) == {"version", "results", "external_data"}
    assert record["version"] == "VERSION 1.0"
    assert record["external_data"] == {"used": True, "details": "a backbone of ImageNet"}
    assert record["results"]["v_5n7NCViB5TU"][0] == {
        "sentence": "One player moves around the net.",
        "timestamp": [1.23, 4.53],
    }
    assert record["results"]["v_none"] == []
    write_submission(CAPTIONS, tmp_path / "s.json")
    record = json.loads((tmp_path / "s.json").read_bytes().decode("utf-8"))
    assert record["external_data"]["used"] is False


def test_a_submission_reads_back_without_loss(tmp_path: Path) -> None:
    write_submission(CAPTIONS, tmp_path / "deep" / "s.json")
    assert read_submission(tmp_path / "deep" / "s.json") == CAPTIONS


def test_others_submissions_are_sorted_and_their_extra_fields_ignored(tmp_path: Path) -> None:
    entries = [
        {"sentence": "later", "timestamp": [5, 9], "sentence_score": -1.5},
        {"sentence": "first", "timestamp": [0, 9], "proposal_score": 0.25},
    ]
    record = {"version": "1", "results": {"v": entries}, "external_data": {}}
    (tmp_path / "s.json").write_text(json.dumps(record))
    assert read_submission(tmp_path / "s.json")["v"] == (
        Caption(start=0.0, end=9.0, text="first"),
        Caption(start=5.0, end=9.0, text="later"),
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no submission"),
        ("[]", "needs version, results, external_data"),
        ('{"version": "1", "results": {}}', "needs version, results, external_data"),
        ('{"version": "1", "results": [], "external_data": {}}', "results must be an object"),
        ('{"version": "1", "results": {"v": 1}, "external_data": {}}', "v: expected a list"),
        ('{"results": {"v": [], "v": []}}', "'v' stands twice"),
    ],
)
def test_a_file_that_is_no_submission_is_refused(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(ValueError, match=rf"s\.json.*{message}"):
        read_submission(tmp_path / "s.json")


@pytest.mark.parametrize(
    "entry",
    [
        7,
        {"sentence": "a"},
        {"timestamp": [0, 1]},
        {"sentence": None, "timestamp": [0, 1]},
        {"sentence": "a", "timestamp": [1]},
        {"sentence": "a", "timestamp": 1},
        {"sentence": "a", "timestamp": [1, 1]},
        {"sentence": "a", "timestamp": [-1, 1]},
        {"sentence": "a", "timestamp": [0, "x"]},
    ],
)
def test_a_damaged_caption_is_refused_by_video_and_number(tmp_path: Path, entry: object) -> None:
    good = {"sentence": "good", "timestamp": [0, 1]}
    record = {"version": "1", "results": {"v": [good, entry]}, "external_data": {}}
    (tmp_path / "s.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"s\.json, v, caption 2: .*expected a sentence and"):
        read_submission(tmp_path / "s.json")


def test_a_file_that_is_missing_or_not_utf8_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.json is missing"):
        read_submission(tmp_path / "none.json")
    (tmp_path / "s.json").write_bytes(b'{"caf\xe9": 1}')
    with pytest.raises(ValueError, match=r"s\.json is no submission: .*utf-8"):
        read_submission(tmp_path / "s.json")


def test_what_the_evaluation_would_refuse_is_not_written(tmp_path: Path) -> None:
    caption = Caption(start=0.0, end=1.0, text="a")
    with pytest.raises(ValueError, match="v: at most 1000 captions a video, got 1001"):
        write_submission({"v": [caption] * 1001}, tmp_path / "s.json")
    with pytest.raises(ValueError, match=r"v: the caption at 0\.0 s has no text"):
        write_submission({"v": [Caption(start=0.0, end=1.0, text=" ")]}, tmp_path / "s.json")
    assert list(tmp_path.iterdir()) == []
