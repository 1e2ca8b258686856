import hashlib
import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import nn

from vidmamba.datasets.errands import (
    Errands,
    ErrandsConfig,
    errands_set,
    generate_errands,
    read_errands,
)
from vidmamba.datasets.errands.appearance import draw_person_at_random
from vidmamba.datasets.errands.grammar import write_script
from vidmamba.datasets.errands.plan import PARTS, plan_clips
from vidmamba.datasets.errands.render import render
from vidmamba.datasets.errands.script import Outcome, Script, frame_labels

SMALL = ErrandsConfig(videos=4, seed=3, gap=(20, 30), size=(96, 72), passers_by=2.0, test=0.4)


def files_of(root: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in root.iterdir()}


def decode(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def script_of(config: ErrandsConfig, outcome: Outcome, clip: int = 0) -> Script:
    return write_script(config, clip, (outcome,), config.gap)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("errands")
    generate_errands(root, SMALL, processes=1)
    return root


@pytest.fixture(scope="module")
def errands(folder: Path) -> Errands:
    return read_errands(folder)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.slow
def test_two_processes_write_the_bytes_that_one_writes(folder: Path, tmp_path: Path) -> None:
    generate_errands(tmp_path, SMALL, processes=2)
    assert files_of(tmp_path) == files_of(folder)


def test_the_same_seed_renders_the_same_pixels_and_another_seed_others() -> None:
    def pixels(config: ErrandsConfig) -> str:
        digest = hashlib.sha256()
        for frame in islice(render(config, 1, script_of(config, "pocket", clip=1)), 60):
            digest.update(frame.tobytes())
        return digest.hexdigest()

    assert pixels(SMALL) == pixels(replace(SMALL)) != pixels(replace(SMALL, seed=4))


def test_a_file_has_one_frame_a_label_and_starts_at_zero(errands: Errands) -> None:
    for clip in errands.clips[:2]:
        assert len(decode(clip.media)) == clip.num_frames
        with av.open(str(clip.media)) as container:
            times = [frame.time for frame in container.decode(video=0)]
        np.testing.assert_allclose(times, np.arange(clip.num_frames) / clip.fps, atol=1e-3)


def test_encoded_frames_show_what_was_rendered(errands: Errands) -> None:
    plan = plan_clips(SMALL)[0]
    rendered = render(SMALL, 0, write_script(SMALL, 0, plan.outcomes, plan.gap))
    errors = [
        np.abs(a.astype(int) - b).mean()
        for a, b in zip(rendered, decode(errands.clips[0].media), strict=True)
    ]
    # noise of 4 levels is what a codec leaves out; a wrong frame is off by far more
    assert max(errors) < 12


def test_segments_cover_the_clip_and_say_what_the_frame_labels_say(errands: Errands) -> None:
    for clip in errands.clips:
        ends = [segment.end for segment in clip.segments]
        assert [segment.start for segment in clip.segments] == [0.0, *ends[:-1]]
        assert ends[-1] == pytest.approx(clip.duration)
        for frame, label in enumerate(clip.labels):
            middle = (frame + 0.5) / clip.fps
            (name,) = (s.label for s in clip.segments if s.start <= middle < s.end)
            assert name == errands.class_names[label]


def test_sentences_name_one_person_and_thing_and_tell_every_act(errands: Errands) -> None:
    for clip in errands.clips:
        (errand,) = clip.errands
        told = {(caption.start, caption.end): caption.text for caption in clip.captions}
        acts = [s for s in clip.segments if s.label not in ("background", "pass_by")]
        for segment in acts:
            assert told[segment.start, segment.end].startswith(f"The {errand.person} ")
        by_label = {s.label: told[s.start, s.end] for s in acts}
        assert f"takes the {errand.thing} from the {errand.shelf} shelf" in by_label["take"]
        if errand.outcome == "pocket":
            assert by_label["leave_with_item"].endswith(f"leaves with the {errand.thing}.")
        else:
            assert by_label["leave_empty_handed"].endswith("leaves empty-handed.")


def test_every_clip_is_an_errand_in_its_order(errands: Errands) -> None:
    for clip in errands.clips:
        (errand,) = clip.errands
        acts = [label for label in clip.transcript if label != "pass_by"]
        leave = "leave_with_item" if errand.outcome == "pocket" else "leave_empty_handed"
        assert acts[0] == "enter"
        assert acts[-1] == leave
        assert acts[acts.index("take") + 1] == errand.outcome
        assert not {"pocket", "put_back", "put_on_table"} & {*acts} - {errand.outcome}


@pytest.mark.parametrize("gap", [(0, 0), (7, 12), (20, 30), (200, 260), (2000, 2000)])
def test_the_gap_lies_between_the_last_sight_of_the_thing_and_leaving(gap: tuple[int, int]) -> None:
    config = replace(SMALL, gap=gap)
    found = set()
    for clip in range(20):
        (errand,) = script_of(config, "put_back", clip=clip).errands
        found.add(errand.leaves - errand.handled)
    assert gap[0] <= min(found) <= max(found) <= gap[1]


def test_the_training_part_may_have_gaps_of_its_own() -> None:
    plan = plan_clips(replace(SMALL, train_gap=(1, 5)))
    assert {p.gap for p in plan if p.part == "train"} == {(1, 5)}
    assert {p.gap for p in plan if p.part != "train"} == {SMALL.gap}


@pytest.mark.parametrize(("videos", "errands"), [(40, 1), (20, 2), (41, 1)])
def test_in_each_part_as_many_leave_with_a_thing_as_without(videos: int, errands: int) -> None:
    plan = plan_clips(ErrandsConfig(videos=videos, errands=errands))
    for part in PARTS:
        outcomes = [o for clip in plan if clip.part == part for o in clip.outcomes]
        carried = sum(outcome == "pocket" for outcome in outcomes)
        assert len(outcomes) > 0
        assert abs(2 * carried - len(outcomes)) <= 1


def test_only_the_handling_shows_how_the_errand_ends() -> None:
    config = replace(SMALL, gap=(40, 60))
    scripts = [script_of(config, o) for o in ("pocket", "put_back", "put_on_table")]
    films = [np.stack([*render(config, 0, script)]) for script in scripts]
    (errand,) = scripts[0].errands
    shown = slice(next(a.start for a in errand.acts if a.label == "pocket"), errand.handled)
    for film, script in zip(films[1:], scripts[1:], strict=True):
        differs = (film != films[0]).any(axis=(1, 2, 3))
        assert differs[shown].mean() > 0.8
        assert not differs[: shown.start].any()
        assert not differs[shown.stop :].any()
        changed = frame_labels(script) != frame_labels(scripts[0])
        assert changed[errand.leaves : errand.end].all()


def test_people_pass_only_while_nothing_decisive_happens() -> None:
    config = replace(SMALL, passers_by=5.0, errands=3)
    script = write_script(config, 0, ("pocket", "put_back", "pocket"), (80, 100))
    assert len(script.passers) > 3
    for errand in script.errands:
        for passer in script.passers:
            assert passer.end <= errand.start or passer.start >= errand.handled
            assert passer.end <= errand.leaves or passer.start >= errand.end


def test_a_stopped_run_goes_on_and_a_whole_one_stays_as_it_is(copy: Path) -> None:
    before = files_of(copy)
    (copy / "annotations.json").unlink()
    (copy / "errand_0002.mp4").unlink()
    (copy / ".part-errand_0002.mp4").write_bytes(b"half a file")
    with pytest.raises(ValueError, match=r"annotations\.json is missing"):
        read_errands(copy)
    calls: list[tuple[int, int]] = []
    generate_errands(copy, SMALL, processes=1, progress=lambda *call: calls.append(call))
    assert calls == [(4, 4)]
    assert files_of(copy) == before
    generate_errands(copy, SMALL, progress=lambda *call: calls.append(call))
    assert len(calls) == 1


def test_a_folder_of_other_dials_is_not_overwritten(copy: Path) -> None:
    with pytest.raises(ValueError, match=r"other dials.*'seed': \(3, 4\)"):
        generate_errands(copy, replace(SMALL, seed=4))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("split", "dev", "split must be one of"),
        ("num_frames", 7, r"errand_0000.mp4: 7 frames, but \d+ labels"),
        ("frame_labels", [["flying", 10]], "'flying'"),
        ("segments", [{"start": 0, "end": 1, "label": "flying"}], "unknown class 'flying'"),
        ("captions", [{"begin": 0}], "video 0: lacks or garbles"),
        ("errands", None, "video 0: lacks or garbles"),
        ("fps", 0, "fps must be positive, got 0"),
        ("file", "gone.mp4", r"gone.mp4: the video file is missing"),
    ],
)
def test_damaged_annotations_are_named(copy: Path, field: str, value: Any, message: str) -> None:
    path = copy / "annotations.json"
    notes = json.loads(path.read_text())
    notes["videos"][0][field] = value
    path.write_text(json.dumps(notes))
    with pytest.raises(ValueError, match=message) as caught:
        read_errands(copy)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "other"}', "\x00"])
def test_a_file_that_is_no_annotations_is_refused_by_name(copy: Path, text: str) -> None:
    (copy / "annotations.json").write_text(text)
    with pytest.raises(ValueError, match=r"annotations\.json"):
        read_errands(copy)


@pytest.mark.parametrize(
    ("dial", "message"),
    [
        ({"videos": 0}, "must be positive"),
        ({"gap": (30, 20)}, "fewest, most"),
        ({"train_gap": (-1, 20)}, "fewest, most"),
        ({"size": (97, 72)}, "even"),
        ({"fps": float("nan")}, "fps"),
        ({"light": 1.5}, "light"),
        ({"validation": 0.5, "test": 0.5}, "leave some to train on"),
    ],
)
def test_dials_out_of_range_are_refused(dial: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **dial)


def test_features_at_any_rate_get_the_label_of_their_time(folder: Path, errands: Errands) -> None:
    def at_half_rate(path: Path) -> tuple[np.ndarray, np.ndarray]:
        frames = next(clip.num_frames for clip in errands.clips if clip.media == path)
        times = np.arange(0, frames, 2) / SMALL.fps - 1e-4  # a decoder's clock may run early
        return np.zeros((len(times), 4), np.float16), times

    labelled = errands_set(folder, at_half_rate, {"name": "zeros"})
    assert [labelled.class_names[c] for c in labelled.memory_classes] == [
        "leave_with_item",
        "leave_empty_handed",
    ]
    assert labelled.background == (0,)
    parts = {"train": labelled.train, "validation": labelled.validation, "test": labelled.test}
    for part, items in parts.items():
        assert [item.name for item in items] == [c.name for c in errands.clips if c.split == part]
    by_name = {clip.name: clip for clip in errands.clips}
    for item in (*labelled.train, *labelled.validation, *labelled.test):
        np.testing.assert_array_equal(item.labels, by_name[item.name].labels[::2])
        # the kind of errand is the only act among the segments that is one of the three
        acts = {segment.label for segment in by_name[item.name].segments}
        (kind,) = acts & {"pocket", "put_back", "put_on_table"}
        assert [labelled.video_class_names[label] for label in item.video_labels] == [kind]
        assert item.captions == by_name[item.name].captions != ()
    assert not labelled.multi_label


def test_a_clip_of_several_errands_has_the_kinds_of_them_all(copy: Path) -> None:
    path = copy / "annotations.json"
    notes = json.loads(path.read_text())
    (errand,) = notes["videos"][0]["errands"]
    kinds = ("put_on_table", "pocket", "put_on_table")
    notes["videos"][0]["errands"] = [errand | {"outcome": kind} for kind in kinds]
    path.write_text(json.dumps(notes))
    data = errands_set(copy, lambda video: (np.zeros((1, 2)), np.zeros(1)), {})
    assert data.multi_label
    (clip,) = (
        item
        for item in (*data.train, *data.validation, *data.test)
        if item.name == Path(notes["videos"][0]["file"]).stem
    )
    assert [data.video_class_names[label] for label in clip.video_labels] == [
        "pocket",
        "put_on_table",
    ]


def test_an_end_of_an_errand_that_nobody_knows_is_refused(copy: Path) -> None:
    path = copy / "annotations.json"
    notes = json.loads(path.read_text())
    notes["videos"][0]["errands"][0]["outcome"] = "eaten"
    path.write_text(json.dumps(notes))
    with pytest.raises(ValueError, match=r"errand_0000\.mp4: .*got \['eaten'\]"):
        errands_set(copy, lambda video: (np.zeros((1, 2)), np.zeros(1)), {})


@pytest.mark.slow
def test_a_frame_wise_probe_sees_the_acts_and_fails_on_memory(tmp_path: Path) -> None:
    from vidmamba.models.backbone import BackboneConfig, FrozenBackbone

    # many short clips: a probe guesses each clip's leaving as one, so that few clips prove nothing
    config = ErrandsConfig(videos=100, gap=(0, 10), validation=0.0, test=0.5, passers_by=0.0)
    generate_errands(tmp_path, config)
    backbone = FrozenBackbone(BackboneConfig(image_size=128))

    def embed(path: Path) -> tuple[np.ndarray, np.ndarray]:
        frames = np.stack(decode(path)[::4])
        return backbone(torch.from_numpy(frames)).numpy(), np.arange(len(frames)) / 2.5

    labelled = errands_set(tmp_path, embed, {})
    x, y = (
        torch.from_numpy(np.concatenate([getattr(item, field) for item in labelled.train]))
        for field in ("features", "labels")
    )
    mean, std = x.mean(dim=0), x.std(dim=0) + 1e-3
    probe = nn.Linear(x.shape[1], len(labelled.class_names))
    optimizer = torch.optim.AdamW(probe.parameters(), 1e-3)
    for _ in range(20):
        for rows in torch.randperm(len(x)).split(256):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(probe((x[rows] - mean) / std), y[rows])
            loss.backward()
            optimizer.step()
    hits: dict[bool, list[bool]] = {True: [], False: []}
    for item in labelled.test:
        features = (torch.from_numpy(item.read_features()) - mean) / std
        predicted = probe(features).argmax(dim=1).numpy()
        for guess, label in zip(predicted, item.labels, strict=True):
            hits[label in labelled.memory_classes].append(guess == label)
    assert np.mean(hits[True]) < 0.6
    assert np.mean(hits[False]) > 0.8


def test_one_name_has_one_look_and_each_kind_its_height() -> None:
    random = np.random.default_rng(0)
    drawn = [draw_person_at_random(random, avoid=frozenset()) for _ in range(400)]
    looks = {(person.kind, person.clothing): person for person in drawn}
    assert all(looks[person.kind, person.clothing] == person for person in drawn)
    assert len(looks) == 24
    heights = {kind: [p.height for p in drawn if p.kind == kind] for kind in ("man", "child")}
    assert max(heights["child"]) < min(heights["man"])
    with_avoided = draw_person_at_random(random, avoid=frozenset([*looks][1:]))
    assert (with_avoided.kind, with_avoided.clothing) == next(iter(looks))
