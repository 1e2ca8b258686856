"""What one page does in Chromium: it plays, follows, seeks, and asks nothing of any network."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vidmamba.report.page import write_page
from vidmamba.timeline import Caption, Segment, Timeline

from .conftest import Browser

EVIL = "</script><img src=x onerror=\"document.title='hacked'\">"
PREDICTED = (("enter", 0.0, 1.5), ("take", 1.5, 3.0), ("wait", 3.5, 4.0), ("leave", 4.0, 6.0))
TRUTH = (("enter", 0.0, 1.0), ("take", 1.0, 3.5), ("leave", 3.5, 6.0))


def _segments(rows: tuple[tuple[str, float, float], ...]) -> tuple[Segment, ...]:
    return tuple(Segment(start=a, end=b, label=name, score=0.5) for name, a, b in rows)


CAPTIONS = (Caption(start=1.0, end=2.0, text="She <b>takes</b> it & goes."),)
PLAIN = Timeline(
    video="clip.mp4", duration=6.0, fps=10.0, segments=_segments(PREDICTED), captions=CAPTIONS
)


def _timeline(**changes: Any) -> Timeline:
    return replace(PLAIN, **changes)


@pytest.fixture(scope="module")
def page(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "clip.html"
    write_page(
        path,
        timeline=_timeline(),
        truth=_timeline(segments=_segments(TRUTH), captions=()),
        scores={"accuracy": 83.333, "f1@50": 50.0},
        video=clip,
    )
    return path


@pytest.fixture(scope="module")
def long_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hours, 1000 segments, 20 classes, no video."""
    path = tmp_path_factory.mktemp("page") / "long.html"
    rows = tuple((f"action {k % 20}", 7.2 * k, 7.2 * (k + 1)) for k in range(1000))
    timeline = _timeline(duration=7200.0, segments=_segments(rows), captions=())
    write_page(path, timeline=timeline, truth=timeline, video=None)
    return path


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    browser.open(page)
    browser.ready()
    return browser


def test_the_video_is_embedded_and_plays(opened: Browser) -> None:
    assert opened.run("return document.querySelector('video').duration") == pytest.approx(6.0)
    assert opened.run("return document.querySelector('video').videoWidth") == 160
    opened.press(" ")
    opened.wait("document.querySelector('video').currentTime > 0.3")
    opened.press(" ")
    opened.wait("document.querySelector('video').paused")


def test_the_page_asks_for_nothing_and_complains_of_nothing(opened: Browser, page: Path) -> None:
    opened.seek(5.0)
    assert opened.complaints() == []
    asked = [url for url in opened.requests() if url.split(":")[0] not in ("data", "blob")]
    assert asked == [page.as_uri()]


@pytest.mark.parametrize("k", range(len(PREDICTED)))
def test_a_click_on_a_segment_of_the_ribbon_seeks_into_it(opened: Browser, k: int) -> None:
    opened.seek(2.9)
    opened.click(f"#strip .lane .seg:nth-child({k + 1})")
    label, start, end = PREDICTED[k]
    assert start <= opened.now() < end
    assert opened.current() == [label]


@pytest.mark.parametrize("k", range(len(PREDICTED)))
def test_a_click_in_the_list_seeks_to_the_segments_start(opened: Browser, k: int) -> None:
    opened.seek(3.2)
    opened.click(f"#segments li:nth-child({k + 1}) button")
    label, start, _ = PREDICTED[k]
    assert start <= opened.now() <= start + 0.01
    assert opened.current() == [label]


def test_a_click_on_a_caption_and_on_a_class_seeks(opened: Browser) -> None:
    opened.click("#captions button")
    assert opened.now() == pytest.approx(1.0, abs=0.01)
    opened.click("#legend li:nth-child(3) button")
    assert opened.now() == pytest.approx(3.5, abs=0.01)


def test_playback_moves_the_mark_from_segment_to_segment(opened: Browser) -> None:
    opened.seek(1.2)
    assert opened.current() == ["enter"]
    head = "parseFloat(document.querySelector('.head').style.left)"
    assert opened.run(f"return {head}") == pytest.approx(20.0)
    # recorded inside the page: a busy machine may poll too seldom to see each mark
    opened.run(
        "window.marked = []; window.cues = 0; window.heads = [];"
        "new MutationObserver(() => {"
        "  const row = document.querySelector('#segments [aria-current] .name > span');"
        "  const name = row?.textContent;"
        "  if (name && name !== window.marked.at(-1)) window.marked.push(name);"
        "  window.cues += document.querySelectorAll('#captions [aria-current]').length;"
        f"  window.heads.push({head});"
        "}).observe(document.body, { attributes: true, subtree: true });"
    )
    opened.press(" ")
    opened.wait("document.querySelector('video').ended")
    marked = opened.run("return window.marked")
    # half a second of "wait" may fall between two frames of a busy machine; no other, nor the order
    assert [name for name in marked if name != "wait"] == ["enter", "take", "leave"]
    assert "wait" not in marked or marked.index("wait") == 2
    assert opened.run("return window.cues") > 0
    heads = opened.run("return window.heads")
    assert heads == sorted(heads)
    assert heads[-1] == pytest.approx(100.0)


def test_a_gap_between_segments_is_marked_as_none(opened: Browser) -> None:
    opened.seek(3.2)
    opened.wait("document.getElementById('now').textContent.includes('no segment')")
    assert opened.current() == []


def test_the_last_segment_stays_marked_when_the_video_has_ended(opened: Browser) -> None:
    opened.seek(6.0)
    opened.wait("document.querySelector('video').ended")
    assert opened.current() == ["leave"]


def test_the_keys_seek_step_and_zoom(opened: Browser) -> None:
    seen = []
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "n", "n", "p"):
        opened.press(key)
        seen.append(opened.now())
    assert seen == pytest.approx([1.0, 2.0, 1.0, 1.5, 3.5, 1.5], abs=0.01)
    opened.press("+")
    assert opened.run("return document.getElementById('zoom').textContent")[0] == "2"


def test_the_timeline_is_a_slider_for_the_keyboard(opened: Browser) -> None:
    opened.run("document.getElementById('window').focus()")
    opened.press("End")
    assert opened.now() == pytest.approx(6.0, abs=0.01)
    opened.press("Home")
    opened.press("ArrowDown")
    assert opened.now() == pytest.approx(1.5, abs=0.01)
    told = opened.run("return document.getElementById('window').getAttribute('aria-valuetext')")
    assert "take" in told
    assert "true" in told


def test_the_list_is_one_stop_of_the_tab_key_and_follows_the_arrows(opened: Browser) -> None:
    opened.run("document.querySelector('#segments button').focus()")
    opened.press("ArrowDown")
    assert opened.run("return document.activeElement.textContent").count("take") == 1
    assert opened.run("return document.querySelectorAll('#segments [tabindex=\"0\"]').length") == 1
    opened.press("Enter")
    assert opened.now() == pytest.approx(1.5, abs=0.01)


def test_everything_that_can_be_focused_has_a_name(opened: Browser) -> None:
    nameless = opened.run(
        "return [...document.querySelectorAll('button, [tabindex]')].filter((node) =>"
        " !node.getAttribute('aria-label') && !node.textContent.trim()).map((n) => n.outerHTML)"
    )
    assert nameless == []


def test_captions_are_a_track_of_the_video(opened: Browser) -> None:
    opened.wait("document.querySelector('video').textTracks[0].cues?.length")
    opened.seek(1.5)
    cue = "document.querySelector('video').textTracks[0].activeCues"
    opened.wait(f"{cue}.length === 1")
    text = opened.run(f"return {cue}[0].getCueAsHTML().textContent")
    assert text == "She <b>takes</b> it & goes."


def test_differences_from_the_truth_are_drawn_and_told(opened: Browser) -> None:
    spans = opened.run(
        "return [...document.querySelectorAll('#strip .differ span')]"
        ".map((s) => [parseFloat(s.style.left), parseFloat(s.style.width)])"
    )
    covered = sum(width for _, width in spans) / 100 * 6
    assert covered == pytest.approx(0.5 + 0.5 + 0.5, abs=1e-3)  # 1-1.5, 3-3.5, 3.5-4
    rows = opened.run("return document.getElementById('segments').textContent")
    assert rows.count("true: ") == 1
    assert "true: leave" in rows


@pytest.mark.parametrize(
    ("which", "width"), [("page", 320), ("page", 390), ("page", 1280), ("long_page", 390)]
)
def test_the_page_is_no_wider_than_its_window(
    browser: Browser, width: int, which: str, request: pytest.FixtureRequest
) -> None:
    browser.open(request.getfixturevalue(which), width=width, height=800)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.complaints() == []


@pytest.mark.parametrize("dark", [False, True])
def test_text_reads_well_on_its_ground(browser: Browser, page: Path, dark: bool) -> None:
    browser.open(page, dark=dark)
    for selector in ("h1", ".facts", ".now .clock", ".lane-name", "#segments small", ".axis span"):
        ratio = browser.run(CONTRAST, selector)
        assert ratio >= 4.5, (selector, ratio)


# WCAG 2.2's contrast of an element's text with the first opaque ground behind it
CONTRAST = """
let node = document.querySelector(arguments[0]);
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
const ink = light(parse(getComputedStyle(node).color));
let ground = [0, 0, 0, 0];
while (node && ground[3] === 0) {
  ground = parse(getComputedStyle(node).backgroundColor);
  if (ground.length === 3) ground.push(1);
  node = node.parentElement;
}
const paper = light(ground);
return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
"""


def test_a_thousand_segments_are_zoomed_with_an_overview_above(
    browser: Browser, long_page: Path
) -> None:
    browser.open(long_page)
    assert browser.run("return document.getElementById('overview').hidden") is False
    wide = browser.run(
        "return [...document.querySelectorAll('#strip .lane:nth-of-type(2) .seg')]"
        ".map((node) => node.getBoundingClientRect().width)"
    )
    assert min(wide) >= 20
    browser.click("#overview")  # its middle
    share = browser.run("return parseFloat(document.querySelector('.head').style.left)")
    assert share == pytest.approx(50.0, abs=0.2)
    place = browser.run(
        "const row = document.querySelector('#segments [aria-current]').getBoundingClientRect();"
        "const list = document.getElementById('segments').getBoundingClientRect();"
        "return row.top >= list.top && row.bottom <= list.bottom"
    )
    assert place, "the list does not follow"
    box = "document.getElementById('window').getBoundingClientRect()"
    head = "document.querySelector('#strip .head').getBoundingClientRect().left"
    assert browser.run(f"return {box}.left <= {head} && {head} <= {box}.right")


def test_labels_and_names_are_text_never_markup(
    browser: Browser, clip: Path, tmp_path: Path
) -> None:
    segments = _segments(((EVIL, 0.0, 3.0), ("{{title}} ${x} \\", 3.0, 6.0)))
    captions = (Caption(start=0.0, end=2.0, text=EVIL),)
    video = "x/" + EVIL.replace("/", "_") + ".mp4"
    timeline = _timeline(video=video, segments=segments, captions=captions)
    path = tmp_path / "evil.html"
    write_page(path, timeline=timeline, truth=timeline, scores={EVIL: 1.0}, video=clip)
    browser.open(path)
    browser.ready()
    browser.click("#segments button")
    assert browser.current() == [EVIL]
    assert browser.run("return document.images.length") == 0
    assert "hacked" not in browser.run("return document.title").split("onerror")[0]
    assert browser.complaints() == []
    assert "{{title}} ${x} \\" in browser.run("return document.body.innerText")


def test_without_a_script_the_video_ribbons_and_lists_are_there(
    browser: Browser, page: Path
) -> None:
    switch = "Emulation.setScriptExecutionDisabled"
    browser.driver.execute_cdp_cmd(switch, {"value": True})
    try:
        browser.open(page)
        browser.ready()
        assert browser.run("return document.querySelectorAll('#strip .seg').length") == 7
        assert browser.run("return document.querySelector('#strip .seg').offsetWidth") > 100
        assert browser.run("return document.querySelector('.zoom').offsetWidth") == 0
        assert "leave" in browser.run("return document.getElementById('segments').innerText")
    finally:
        browser.driver.execute_cdp_cmd(switch, {"value": False})


def test_the_text_of_the_page_names_no_address(page: Path, long_page: Path) -> None:
    for path in (page, long_page):
        text = re.sub(r"base64,[\w+/=]+", "", path.read_text(encoding="utf-8"))
        assert not re.search(r"https?:|//\w+\.\w|@import|url\(", text)
        assert set(re.findall(r'\b(?:src|href)="([^"]{0,5})', text)) <= {"data:"}


@pytest.mark.parametrize(
    "make", [lambda path: None, lambda path: path.write_bytes(b""), lambda path: path.mkdir()]
)
def test_a_video_that_cannot_be_read_leaves_the_timeline_and_a_note(
    browser: Browser, tmp_path: Path, make: Callable[[Path], object]
) -> None:
    make(tmp_path / "gone.mp4")
    write_page(tmp_path / "p.html", timeline=_timeline(), video=tmp_path / "gone.mp4")
    browser.open(tmp_path / "p.html")
    assert "gone.mp4" in browser.run("return document.querySelector('.empty').textContent")
    browser.click("#segments li:nth-child(2) button")
    assert browser.current() == ["take"]
    assert browser.complaints() == []


def test_a_timeline_without_segments_is_a_page(
    browser: Browser, clip: Path, tmp_path: Path
) -> None:
    write_page(tmp_path / "p.html", timeline=_timeline(segments=(), captions=()), video=clip)
    browser.open(tmp_path / "p.html")
    browser.ready()
    for key in ("n", "p", "+"):
        browser.press(key)
    assert browser.complaints() == []


def test_a_video_that_this_browser_cannot_play_is_owned_up_to(
    browser: Browser, page: Path, tmp_path: Path
) -> None:
    text = page.read_text(encoding="utf-8")
    broken = re.sub(r"data:video/mp4;base64,[\w+/=]+", "data:video/mp4;base64,AAAA", text)
    (tmp_path / "p.html").write_text(broken, encoding="utf-8")
    browser.open(page)
    browser.ready()
    assert browser.run("return document.getElementById('broken').offsetHeight") == 0
    browser.open(tmp_path / "p.html")
    browser.wait("document.getElementById('broken').offsetHeight > 0")
    browser.click("#segments li:nth-child(2) button")  # no error is thrown
