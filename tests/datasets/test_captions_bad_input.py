"""Whatever is wrong in a caption file gets a line that names the file and the entry."""

import gzip
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vidmamba.datasets.captions import (
    AnnotatedVideos,
    CaptionedVideo,
    CaptionIssue,
    CaptionIssues,
    read_activitynet,
    read_coco,
    read_msrvtt,
    read_msvd_csv,
    read_msvd_text,
    read_vid2seq,
    read_youcook2,
)
from vidmamba.timeline import Caption

GOOD = {"duration": 9.0, "timestamps": [[0.0, 1.0]], "sentences": ["good"]}


def _dense(folder: Path, timestamps: list[Any], sentences: list[Any]) -> AnnotatedVideos:
    path = folder / "dense.json"
    video = {"duration": 10.0, "timestamps": timestamps, "sentences": sentences}
    path.write_text(json.dumps({"v": video, "w": GOOD}))
    return read_activitynet(path)


@pytest.mark.parametrize(
    ("span", "text", "kind", "values"),
    [
        ([0, 1], "", "no words", "''"),
        ([0, 1], " \t...!? —\u200b", "no words", "...!?"),
        ([0, 1], "\ufe0f\u0301", "no words", "has no words"),
        ([3, 3], "a", "no span", "[3.0, 3.0)"),
        ([4, 3], "a", "no span", "[4.0, 3.0)"),
        ([10, 11], "a", "outside", "10.0 s"),
        ([-3, 0], "a", "outside", "[-3.0, 0.0)"),
    ],
)
def test_a_caption_that_cannot_be_used_is_left_out_by_name(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    span: list[int],
    text: str,
    kind: str,
    values: str,
) -> None:
    with caplog.at_level(logging.WARNING):
        read = _dense(tmp_path, [[1, 2], span], ["first", text])
    assert [caption.text for caption in read.videos[0].captions] == ["first"]
    (issue,) = read.issues.left_out
    assert issue.kind == kind
    assert f"{(tmp_path / 'dense.json').as_posix()}, v, sentence 2: " in str(issue)
    assert values in str(issue)
    assert f"1 {kind}" in caplog.text


@pytest.mark.parametrize("text", ["切る", "👍", "नमस्ते", "3", "👩‍🍳", "עברית!", "é", "1️⃣"])
def test_words_of_any_script_and_emoji_are_kept_as_they_are(tmp_path: Path, text: str) -> None:
    read = _dense(tmp_path, [[0, 1]], [text])
    assert read.videos[0].sentences == (text,)
    assert len(read.issues) == 0


@pytest.mark.parametrize(
    ("span", "kept", "kind"),
    [
        ([8, 10.01], (8.0, 10.0), "past the end"),
        ([8, 900], (8.0, 10.0), "past the end"),
        ([-0.5, 3], (0.0, 3.0), "before the start"),
    ],
)
def test_a_caption_that_passes_the_ends_is_cut_there_and_counted(
    tmp_path: Path, span: list[float], kept: tuple[float, float], kind: str
) -> None:
    read = _dense(tmp_path, [span], ["a"])
    (caption,) = read.videos[0].captions
    assert (caption.start, caption.end) == kept
    assert read.issues.counts == {kind: 1}
    assert read.issues.left_out == ()


def test_the_last_bit_of_an_end_is_no_issue(tmp_path: Path) -> None:
    read = _dense(tmp_path, [[8, 10.000000000000002]], ["a"])
    assert read.videos[0].captions[0].end == 10.0
    assert len(read.issues) == 0


def test_unsorted_and_overlapping_captions_are_sorted_kept_and_counted(tmp_path: Path) -> None:
    read = _dense(tmp_path, [[5, 9], [1, 7], [1, 2], [5, 9]], ["c", "a", "b", "d"])
    assert [caption.text for caption in read.videos[0].captions] == ["a", "b", "c", "d"]
    assert read.issues.counts == {"unsorted": 1, "overlapping": 1, "same span": 1}
    assert "3 of 4 captions" in str(read.issues.of("overlapping")[0])


def test_captions_that_touch_do_not_overlap(tmp_path: Path) -> None:
    assert len(_dense(tmp_path, [[1, 2], [2, 3]], ["a", "b"]).issues) == 0


def test_half_a_character_is_replaced_and_counted(tmp_path: Path) -> None:
    read = _dense(tmp_path, [[0, 1]], ["fun \ud83d ends"])
    assert read.videos[0].sentences == ("fun \ufffd ends",)
    assert read.issues.counts == {"broken characters": 1}


def test_a_video_without_captions_is_named(tmp_path: Path) -> None:
    read = _dense(tmp_path, [[3, 3]], ["a"])
    assert [video.name for video in read.videos] == ["w"]
    assert [issue.kind for issue in read.issues.left_out] == ["no span", "no captions"]
    assert "v: 1 sentence, none to be used" in str(read.issues)


def test_a_file_of_which_nothing_can_be_used_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"v": GOOD | {"sentences": ["?"]}}))
    with pytest.raises(ValueError, match=r"a\.json has no video .*v, sentence 1: '\?' has no word"):
        read_activitynet(path)
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"a\.json has no video"):
        read_activitynet(path)


def _coco(**fields: Any) -> dict[str, Any]:
    caption = {"id": 1, "image_id": 1, "caption": "a"}
    return {"images": [{"id": 1}], "annotations": [caption]} | fields


def _msrvtt(**video: Any) -> dict[str, Any]:
    usual = {"video_id": "v", "category": 1, "start time": 0, "end time": 1, "split": "train"}
    sentence = {"sen_id": 0, "video_id": "v", "caption": "a"}
    return {"videos": [usual | video], "sentences": [sentence]}


def _youcook2(**video: Any) -> dict[str, Any]:
    event = {"segment": [0, 1], "sentence": "a"}
    usual = {"duration": 5.0, "subset": "training", "annotations": [event]}
    return {"database": {"v": usual | video}}


@pytest.mark.parametrize(
    ("read", "record", "message"),
    [
        (read_activitynet, [GOOD], "expected an object of videos, got a list"),
        (read_activitynet, {"v": [1]}, "f, v: expected an object"),
        (read_activitynet, {"v": {"duration": 1.0}}, "f, v: lacks 'timestamps'"),
        (read_activitynet, {"v": GOOD | {"duration": "9"}}, "f, v: 'duration' must be int or fl"),
        (read_activitynet, {"v": GOOD | {"duration": 0}}, "f, v: duration must be above 0"),
        (read_activitynet, {"v": GOOD | {"duration": True}}, "f, v: 'duration' must be"),
        (read_activitynet, {"v": GOOD | {"duration": 10**400}}, "f, v: duration: expected a num"),
        (read_activitynet, {"v": GOOD | {"sentences": []}}, "f, v: 1 timestamps for 0 sentences"),
        (read_activitynet, {"v": GOOD | {"sentences": [4]}}, "f, v, sentence 1: expected a text"),
        (read_activitynet, {"v": GOOD | {"timestamps": [[0]]}}, "f, v, sentence 1: expected [st"),
        (read_activitynet, {"v": GOOD | {"timestamps": [["a", 1]]}}, "f, v, sentence 1: expected"),
        (read_youcook2, _youcook2(subset="all"), "f, v: subset must be one of"),
        (read_youcook2, _youcook2(annotations=[{"segment": [0, 1]}]), "f, v: lacks 'sentence'"),
        (read_youcook2, _youcook2(annotations=3), "f, v: annotations must be a list"),
        (read_msrvtt, {"videos": []}, "f: lacks 'sentences'"),
        (read_msrvtt, _msrvtt(split="trian"), "f, v: split must be one of train,"),
        (read_msrvtt, _msrvtt(**{"end time": 0}), "f, v: must last more than 0 s"),
        (read_msrvtt, _msrvtt(**{"end time": 10**400}), "f, v: end time: expected a number of sec"),
        (read_msrvtt, {"videos": [{"id": 1}], "sentences": []}, "f, videos 0: lacks 'video_id'"),
        (read_coco, _coco(images=[{"id": 1}, {"id": "1"}]), "f: id '1' stands twice"),
        (read_coco, _coco(annotations=[{"id": 8, "image_id": 1}]), "f, id 8: lacks 'caption'"),
        (read_coco, _coco(annotations=_coco()["annotations"] * 2), "f: id '1' stands twice"),
    ],
)
def test_an_entry_of_another_form_is_refused_by_name(
    tmp_path: Path, read: Callable[[Path], AnnotatedVideos], record: Any, message: str
) -> None:
    path = tmp_path / "f"
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError) as error:  # noqa: PT011
        read(path)
    assert message in str(error.value)
    assert str(error.value).startswith(path.as_posix())


def test_a_caption_of_a_video_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "coco.json"
    other = {"id": 9, "image_id": 404, "caption": "lost"}
    path.write_text(json.dumps(_coco(annotations=[*_coco()["annotations"], other])))
    read = read_coco(path)
    assert [video.name for video in read.videos] == ["1"]
    assert "coco.json, id 9: 'lost' is about '404': left out (unknown video)" in str(read.issues)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"v": 1,\n "v": 2}', "'v' stands twice"),
        (b'{"v":\n nope}', ":2: no JSON"),
        (b'{"v": NaN}', "NaN is no number"),
        (b'{"v":\n "caf\xe9"}', ":2: byte 0xe9 is not UTF-8"),
        # Without the time, which would name the test anew in each worker that collects it.
        (gzip.compress(b"{}" * 99, mtime=0)[:-9], "damaged gzip"),
        (b"\x1f\x8b\x00\x00", "damaged gzip"),
        (b"[" * 100_000, "nested too deeply"),
        (b"", ":1: no JSON"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        read_activitynet(path)
    assert message in str(error.value)
    assert str(error.value).startswith(str(path))


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.json is missing"):
        read_activitynet(tmp_path / "none.json")


CSV_HEAD = "VideoID,Start,End,WorkerID,Source,AnnotationTime,Language,Description\n"
VID2SEQ_HEAD = "video_id,duration,caption,start,end\n"


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (read_msvd_csv, "VideoID,Start\na,1\n", "lacks the columns End, Language, Description"),
        (read_msvd_csv, CSV_HEAD + "a,1,2,1,c,1,English\n", ":2: 7 values for 8 columns"),
        (read_msvd_csv, CSV_HEAD + "\na,x,2,1,c,1,English,d\n", ":3: Start and End must be"),
        (read_msvd_csv, CSV_HEAD + 'a,1,2,1,c,1,English,"d\n', "no CSV"),
        (read_msvd_text, "a_1_2 good\nbad line\n", ":2: expected `<name>_<start>_<end>"),
        (read_vid2seq, VID2SEQ_HEAD + "v,9,open('x'),[0],[1]\n", ":2: caption: no value of"),
        (read_vid2seq, VID2SEQ_HEAD + "v,9,['a'],[0],\"[1, 2]\"\n", ":2: 1 starts, 2 ends"),
        (read_vid2seq, VID2SEQ_HEAD + "v,9,7,[0],[1]\n", ":2: caption must be a list"),
        (read_vid2seq, VID2SEQ_HEAD + "v,9,['a'],['b'],[1]\n", ":2: start: expected microsec"),
        (read_vid2seq, VID2SEQ_HEAD + f"v,1{'0' * 400},['a'],[0],[1]\n", ":2: duration: expected"),
    ],
)
def test_a_damaged_line_is_refused_by_number(
    tmp_path: Path, read: Callable[[Path], AnnotatedVideos], text: str, message: str
) -> None:
    path = tmp_path / "f.csv"
    path.write_text(text)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        read(path)
    assert message in str(error.value)
    assert str(error.value).startswith(path.as_posix())


def test_a_vid2seq_row_without_captions_is_named(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text(VID2SEQ_HEAD + "v,9000000,,,\nu,1,nan,nan,nan\nw,9000000,['a'],[0],[1000000]\n")
    read = read_vid2seq(path)
    assert [(issue.kind, issue.entry) for issue in read.issues] == [
        ("no captions", "v"),
        ("no captions", "u"),
    ]


def test_a_video_that_two_files_annotate_is_refused() -> None:
    def read(source: str) -> AnnotatedVideos:
        video = CaptionedVideo(name="v", duration=None, references=("a",), source=source)
        return AnnotatedVideos(videos=(video,))

    with pytest.raises(ValueError, match=r"v is annotated twice, in a\.json and b\.json"):
        read("a.json") + read("b.json")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "needs timed captions or references, got 0 and 0"),
        ({"captions": (Caption(start=0.0, end=1.0, text="a"),), "references": ("a",)}, "1 and 1"),
        ({"captions": (Caption(start=0.0, end=7.0, text="a"),)}, "v lasts 5.0 s, but 'a' ends"),
        ({"duration": -1.0, "references": ("a",)}, "duration must be above 0 s, got -1.0"),
        (
            {
                "captions": (
                    Caption(start=2.0, end=3.0, text="a"),
                    Caption(start=1.0, end=2.0, text="b"),
                )
            },
            "sorted by start, got 2.0 s before 1.0 s",
        ),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(fields: dict[str, Any], message: str) -> None:
    usual: dict[str, Any] = {"name": "v", "duration": 5.0}
    with pytest.raises(ValueError, match=message):
        CaptionedVideo(**usual | fields)


def test_a_report_counts_each_kind_and_shows_as_many_as_asked() -> None:
    issues = CaptionIssues(
        tuple(
            CaptionIssue(kind=kind, file="f", entry=f"v{k}", detail="d")
            for k, kind in enumerate(["unsorted", "no words", "no words", "no words"])
        )
    )
    assert issues.lines(2) == [
        "no words: 3 left out",
        "  f, v1: d: left out (no words)",
        "  f, v2: d: left out (no words)",
        "  and 1 more",
        "unsorted: 1 sorted",
        "  f, v0: d: sorted (unsorted)",
    ]
    assert len(str(issues + issues).splitlines()) == 2 + 8
    with pytest.raises(ValueError, match="'odd'"):
        CaptionIssue(kind="odd", file="f", entry="v", detail="d")
