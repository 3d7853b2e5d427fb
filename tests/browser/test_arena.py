"""The Arena and the Preferences page in a real browser: the whole path of a rater, with a fake microphone."""

from __future__ import annotations

import io
import zipfile

import pyarrow.parquet
import pytest

pytestmark = pytest.mark.browser
READY = ".arena[data-step]:not([data-step=loading])"
SIDEWAYS = """() => ({
    wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
    beyond: [...document.querySelectorAll('button, input, select, canvas, p, .arena-card, .block')]
        .filter(node => node.offsetParent && !node.closest('.examples, .frame nav, .arena-live'))
        .filter(node => node.getBoundingClientRect().right > innerWidth + 1)
        .map(node => node.outerHTML.slice(0, 120)),
})"""


@pytest.fixture
def names(assets) -> list[str]:
    """Checkpoints, none of which the page may name before the vote."""
    marks = ("interleaved.json", "adapter_config.json")
    return [folder.name for folder in assets.iterdir() if any((folder / mark).is_file() for mark in marks)]


@pytest.fixture
def arena(open_page):
    """A tab that agreed and heard the sound check; ``wire`` is all that the server sent to it."""

    def open_one(width: int = 1280, height: int = 900, level: str = "publish", **how):
        page = open_page(width, height, path="arena", ready=READY, **how)
        page.wire = []
        page.on("response", lambda response: _kept(page.wire, response))
        page.locator(f".arena-level input[value={level}]").check()
        page.get_by_role("button", name="Agree and go on").click()
        page.get_by_role("button", name="Play the sound check").click()
        page.get_by_role("button", name="I hear it well").click(timeout=60_000)
        page.locator("#arena-composer").wait_for(state="visible")
        return page

    return open_one


def _kept(wire: list[str], response) -> None:
    wire.append(response.url)
    if "component_server" in response.url:
        try:
            wire.append(response.text())
        except Exception:  # the tab was closed while it came
            return


def listen(page) -> None:
    """Plays A, then B, which follows by itself, until the vote is open."""
    page.locator(".ab").last.wait_for()
    page.keyboard.press("Space")
    page.locator(".arena-left[data-open=true]").wait_for(timeout=60_000)


def example(page) -> None:
    page.locator(".example").first.click()
    page.locator(".arena-battle").wait_for()


def reveal(page) -> list[str]:
    page.locator(".arena-reveal:not([aria-disabled=true])").click(timeout=60_000)
    page.locator(".arena-revealed").wait_for()
    return page.locator(".arena-side strong").all_inner_texts()


def test_whole_path_from_consent_to_the_export(arena, names):
    page = arena()
    page.get_by_role("button", name="Record", exact=True).click()
    page.locator("#recording .stop-button").wait_for()  # now it records
    page.wait_for_timeout(2500)
    page.locator("#recording .stop-button").click()
    listen(page)
    assert page.locator(".ab").get_attribute("data-side") in ("A", "B")
    page.get_by_role("button", name="A is better").click()
    page.get_by_text("Vote saved").first.wait_for()
    page.get_by_role("button", name="Undo").click()
    page.locator(".arena-left[data-open=true]").wait_for()
    page.keyboard.press("6")
    page.get_by_text("B is better: press Enter to vote.").wait_for()
    page.keyboard.press("Enter")
    page.get_by_text("Vote saved").first.wait_for()
    page.get_by_role("group", name="More natural?").get_by_role("button", name="B", exact=True).click()
    page.locator(".arena-tapped", has_text="Saved.").wait_for()
    assert not [name for name in names for each in (*page.wire, page.content()) if name in each]

    shown = reveal(page)
    assert sorted(shown) == sorted(set(shown)), "two different checkpoints"
    assert set(shown) <= set(names)
    receipt = page.locator(".arena-receipt code").inner_text()
    page.get_by_role("button", name="My votes").click()
    mine = page.locator(".arena-mine li")
    mine.first.wait_for()
    assert receipt in mine.first.inner_text()
    assert "counted" in mine.first.inner_text()
    page.get_by_role("button", name="New battle").click()
    page.locator("#arena-composer").wait_for(state="visible")

    page.wait_for_timeout(1500)  # what can be undone is not shown to others, and a blink more
    page.get_by_role("link", name="Preferences").click()
    page.locator(".prefs-line").first.wait_for()
    page.locator(".prefs-line .clip").first.click()
    page.locator(".prefs-listen .ab").wait_for()
    page.get_by_text("Preview of one row").click()
    page.locator(".prefs-preview pre", has_text='"chosen"').wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download parquet and card").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert "README.md" in archive.namelist()
        parquet = next(name for name in archive.namelist() if name.startswith("preference/preference-"))
        table = pyarrow.parquet.read_table(io.BytesIO(archive.read(parquet))).to_pylist()
    row = next(row for row in table if row["vote"] == receipt)
    assert row["margin"] == 2.0
    assert row["chosen_side"] == "right"
    assert row["naturalness_margin"] == 1.0
    assert row["prompt_audio"]["bytes"][:4] == row["chosen_audio"]["bytes"][:4] == b"RIFF"


def test_one_clock_for_both_sides_and_switching_keeps_the_moment(arena):
    page = arena()
    example(page)
    page.get_by_role("button", name="Play A").click()
    page.locator(".ab[data-playing=true][data-side=A]").wait_for()
    before = float(page.locator(".ab-slider").input_value())
    page.keyboard.press("b")
    page.locator(".ab[data-playing=true][data-side=B]").wait_for()
    assert float(page.locator(".ab-slider").input_value()) >= before
    page.keyboard.press("Space")
    page.locator(".ab[data-playing=false]").wait_for()
    stood = float(page.locator(".ab-slider").input_value())
    page.wait_for_timeout(300)
    assert float(page.locator(".ab-slider").input_value()) == stood
    page.keyboard.press("a")
    page.locator(".ab[data-playing=true][data-side=A]").wait_for()


def test_nothing_can_be_voted_before_it_was_heard(arena):
    page = arena()
    example(page)
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Both are bad").click(force=True)
    page.wait_for_timeout(500)
    assert page.locator(".arena-left").inner_text() == "Listen to A and B first, then vote."
    assert page.locator(".arena-voted").count() == 0


def test_a_question_is_stopped_while_it_waits_for_its_turn(arena):
    page = arena()
    waiting = []
    page.route("**/queue/join*", lambda route: waiting.append(route))
    page.locator(".example").first.click()
    page.locator(".arena-status", has_text="Sent").wait_for()
    with page.expect_response("**/component_server/**"):
        page.get_by_role("button", name="Stop", exact=True).click()
    page.locator(".arena-status", has_text="Stopping").wait_for()
    waiting[0].continue_()
    page.unroute("**/queue/join*")
    page.locator(".arena-alert", has_text="Stopped. Nothing was asked.").wait_for()
    assert page.locator(".arena-status").is_hidden()
    example(page)


def test_a_glimpse_of_one_side_is_not_hearing_it(arena):
    page = arena()
    example(page)
    page.get_by_role("button", name="Hear B").click()
    page.locator(".ab[data-playing=true][data-side=B]").wait_for()
    page.keyboard.press("a")
    page.locator(".ab[data-side=A]").wait_for()
    page.locator(".arena-left[data-open=true]").wait_for(timeout=60_000)  # both follow by themselves


def test_a_second_turn_is_voted_on_with_the_first(arena):
    page = arena()
    example(page)
    page.locator("#question textarea").fill("What is the opposite of hot?")
    page.keyboard.press("Enter")
    page.locator(".arena-turn").nth(1).wait_for()
    assert page.locator(".ab").count() == 2
    assert page.get_by_text("Which side is better over the whole dialogue?").is_visible()
    for player in page.locator(".ab-play").all():
        player.click()
        page.locator(".ab[data-playing=true]").wait_for()
        page.locator(".ab[data-playing=true]").wait_for(state="detached", timeout=60_000)
    page.locator(".arena-left[data-open=true]").wait_for()


def test_a_reload_comes_back_to_the_battle_and_to_the_vote(arena):
    page = arena()
    example(page)
    page.reload()
    listen(page)
    page.get_by_role("button", name="No difference").click()
    page.get_by_text("Vote saved").first.wait_for()
    page.reload()
    page.get_by_text("Vote saved").first.wait_for()


def test_erasing_begins_anew(arena):
    page = arena(level="nothing")
    example(page)
    page.get_by_role("button", name="Erase my data").click()
    page.get_by_role("button", name="Erase everything of mine").click()
    page.get_by_text("Erased: 1 battle").wait_for()
    page.get_by_role("button", name="Agree and go on").wait_for()
    page.reload()
    page.get_by_role("button", name="Agree and go on").wait_for()


def test_odd_text_gets_one_sentence(arena):
    page = arena()
    for text, told in (
        ("", "Nothing to answer yet"),
        ("x" * 10_000, "the limit is 1,000"),
        ("<img src=x onerror=alert(1)>", "outside the small world"),
    ):
        page.locator("#question textarea").fill(text)
        page.locator("#send").click()
        page.locator(".arena-alert").get_by_text(told).wait_for()
    page.locator("#question textarea").fill("")
    example(page)


def test_nothing_scrolls_sideways_on_a_phone(arena):
    page = arena(390, 844, color_scheme="dark")
    example(page)
    page.get_by_role("button", name="My votes").click()
    page.locator(".arena-drawer .arena-card").wait_for()
    assert page.evaluate(SIDEWAYS) == {"wide": False, "beyond": []}
    page.get_by_role("link", name="Preferences").click()
    page.locator(".prefs-export").wait_for()
    assert page.evaluate(SIDEWAYS) == {"wide": False, "beyond": []}
