"""The Talk page in a real browser: what a visitor does, and hears."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
import soundfile
from playwright.sync_api import expect

from tests.browser.talking import choose

pytestmark = pytest.mark.browser
QUESTION = "What is the opposite of hot?"


def ask(page, text: str = QUESTION, answers: int = 2) -> None:
    """Types and waits until every side has answered this turn."""
    before = page.locator(".exchange").count()
    page.locator("#question textarea").fill(text)
    page.keyboard.press("Enter")
    answered(page, before + 1, answers)


def answered(page, exchange: int, answers: int = 2) -> None:
    done = page.locator(".exchange").nth(exchange - 1).locator(".answer[data-state=done]")
    done.nth(answers - 1).wait_for()
    page.locator("#send").wait_for(state="visible")


def ask_again(page) -> None:
    """Waits for the new answers to the only question; those before stay on the page until these begin."""
    page.locator(".exchange").evaluate("node => { node.dataset.before = true; }")
    page.locator("#again").click()
    page.locator(".exchange[data-before]").wait_for(state="detached")
    answered(page, 1)


def sound(page, selector: str) -> tuple[np.ndarray, int]:
    """Fetches and decodes the audio that a player plays."""
    response = page.request.get(page.eval_on_selector(selector, "audio => audio.src"))
    assert response.ok
    return soundfile.read(io.BytesIO(response.body()))


def audible(samples: np.ndarray, rate: int) -> bool:
    return len(samples) > 0.2 * rate and float(np.sqrt(np.mean(samples**2))) > 0.003


def downloaded(page) -> dict:
    page.locator("#download:not([disabled])").wait_for()
    with page.expect_download() as download:
        page.locator("#download").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        return json.loads(archive.read("conversation.json")) | {"files": archive.namelist()}


def keep_seed(page, seed: int, temperature: float = 2.0) -> None:
    """Lively sampling, so that a different prompt is sure to sound different."""
    page.get_by_role("button", name="Sampling").click()
    assert page.locator("#as-recommended input").is_checked()
    for name in ("Temperature", "Speech temperature"):
        page.get_by_label(f"number input for {name}", exact=True).fill(str(temperature))
        page.keyboard.press("Tab")
    page.wait_for_function("() => !document.querySelector('#as-recommended input').checked")
    page.locator("#seed input").fill(str(seed))
    expect(page.get_by_label("Keep this seed")).to_be_checked(timeout=60_000)  # by the page: a click here undoes it


def test_the_page_opens_and_says_what_to_do(page):
    assert page.title() == "WavAlign Workbench"
    assert page.get_by_role("heading", name="Speak, or pick an example.").is_visible()
    assert page.get_by_text("What it can talk about").is_visible()
    assert page.locator(".example").count() >= 4
    assert any(word in page.locator(".frame-device").inner_text() for word in ("CPU", "GB"))
    assert page.locator("#again").is_disabled()
    assert page.locator("#download").get_attribute("disabled") is not None


def test_both_sides_answer_a_typed_question_aloud(page):
    ask(page)
    assert page.locator(".asked-words").inner_text() == QUESTION
    for side in ("a", "b"):
        samples, rate = sound(page, f".side-{side} audio")
        assert audible(samples, rate)
        figures = page.locator(f".answer.side-{side} .figure dt").all_inner_texts()
        assert figures[:2] == ["First audio", "Speed"]
    page.locator("#plot-a .js-plotly-plot").wait_for()
    page.locator("#plot-b .js-plotly-plot").wait_for()


def test_sound_begins_before_the_reply_is_whole_and_plays_on_its_own(page):
    page.locator("#question textarea").fill(QUESTION)
    page.keyboard.press("Enter")
    page.wait_for_selector(".stage[data-first-audio-ms]")  # only what comes in pieces sets it
    answered(page, 1)
    assert int(page.get_attribute(".stage", "data-first-audio-ms")) > 0


def test_the_microphone_is_heard_and_a_second_turn_uses_the_first(page):
    page.get_by_role("button", name="Record", exact=True).click()
    page.locator("#recording .stop-button").wait_for()  # now it records
    page.wait_for_timeout(2500)
    page.locator("#recording .stop-button").click()
    answered(page, 1)
    samples, rate = sound(page, ".asked audio")
    assert audible(samples, rate)
    for side in ("a", "b"):
        assert audible(*sound(page, f".side-{side} audio"))
    ask(page)
    record = downloaded(page)
    assert [turn["user"]["typed"] for turn in record["turns"]] == [None, QUESTION]
    assert "turn-01-user.wav" in record["files"]


def test_the_same_seed_says_the_same_alone_and_something_else_after_another_turn(page):
    keep_seed(page, 5)
    ask(page)
    alone = downloaded(page)["turns"][0]["replies"]
    assert [each["sampling"]["temperature"] for each in alone.values()] == [1.5, 1.5], "moved sliders hold for both"
    ask_again(page)
    assert downloaded(page)["turns"][0]["replies"]["a"]["tokens"] == alone["a"]["tokens"]
    ask(page)
    assert downloaded(page)["turns"][1]["replies"]["a"]["tokens"] != alone["a"]["tokens"]


def test_a_follow_up_is_understood_only_after_what_it_follows(page):
    page.locator("#question textarea").fill("And what about cold?")
    page.keyboard.press("Enter")
    page.get_by_text("outside the small world").wait_for()
    page.locator("#new").click()
    page.locator(".stage-empty").wait_for(state="visible")
    ask(page)
    ask(page, "And what about cold?")
    assert page.locator(".asked-note:visible").count() == 0


def test_an_example_is_asked_with_one_press(page):
    page.locator(".example").first.click()
    answered(page, 1)
    assert audible(*sound(page, ".side-a audio"))


def test_new_clears_again_replaces_and_one_column_is_enough(page):
    ask(page)
    ask_again(page)
    assert page.locator(".exchange").count() == 1
    page.locator("#new").click()
    page.locator(".stage-empty").wait_for(state="visible")
    choose(page, "b", "Only one")
    ask(page, answers=1)
    assert page.locator(".answer").count() == 1


def test_a_question_that_is_faster_than_the_news_of_a_choice_is_answered(page):
    """The news of the choice comes when the question is answered: it must neither stop it nor clear the page."""
    held = []
    page.route("**/gradio_api/run/**", lambda route: held.append(route))
    page.locator(".side-b input").click()
    page.get_by_role("option", name="Only one", exact=True).click()
    page.locator("#question textarea").fill(QUESTION)
    page.keyboard.press("Enter")
    answered(page, 1, answers=1)
    assert held
    with page.expect_response("**/gradio_api/run/**"):
        for route in held:
            route.continue_()
    page.unroute("**/gradio_api/run/**")
    ask(page, "What is seven plus five?", answers=1)
    assert page.locator(".exchange").count() == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "Nothing to answer yet"),
        ("x" * 10_000, "the limit is 1,000"),
        ("🙂🎉", "no words"),
        ("七加五是多少", "outside the small world"),
        ("<img src=x onerror=alert(1)>", "outside the small world"),
    ],
    ids=["nothing", "ten thousand characters", "emoji", "another language", "markup"],
)
def test_odd_text_gets_one_sentence(page, text, told):
    page.locator("#question textarea").fill(text)
    page.keyboard.press("Enter")
    page.get_by_text(told).first.wait_for()
    page.locator("#question textarea").fill("")
    ask(page)


def odd_files(folder) -> dict[str, tuple[bytes, str]]:
    """File name to (content, what is told; empty where it is answered)."""

    def wav(samples, rate=16_000, **how):
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, rate, **({"format": "WAV"} | how))
        return buffer.getvalue()

    clock = np.arange(48_000) / 48_000
    hum = 0.2 * sum(np.sin(2 * np.pi * 140 * k * clock) / k for k in range(1, 10))
    broken = hum.copy()
    broken[5] = np.nan
    return {
        "silence.wav": (wav(np.zeros(16_000)), "is silent"),
        "short.wav": (wav(hum[:2400], 48_000), "only 50 ms"),
        "long.wav": (wav(np.zeros(600 * 8000), 8000, subtype="PCM_U8"), "the limit is 30 s"),
        "notes.wav": (b"this is not audio\n" * 40, "not audio we can read"),
        "nan.wav": (wav(broken, 48_000, subtype="FLOAT"), "not numbers"),
        "studio.wav": (wav(np.stack([hum, hum], 1), 48_000, subtype="PCM_24"), ""),
        "half.wav": (wav(hum, 48_000)[:60_000], ""),
        "song.mp3": (wav(hum, 48_000, format="MP3"), ""),
        "voice.ogg": (wav(hum, 48_000, format="OGG"), ""),
    }


def test_odd_files_get_a_reply_or_one_sentence(page, tmp_path):
    page.get_by_label("Upload file").click()
    count = 0
    for name, (content, told) in odd_files(tmp_path).items():
        page.set_input_files("#recording input[type=file]", {"name": name, "mimeType": "audio/wav", "buffer": content})
        page.locator("#recording [data-testid^=waveform] audio, #recording .icon-button[title=Clear]").first.wait_for()
        page.wait_for_timeout(400)
        page.locator("#send").click()
        if told:
            page.locator(".stage-alert").get_by_text(told).wait_for()
        else:
            count += 1
            answered(page, count)
    assert page.locator(".exchange").count() == count


def test_nothing_scrolls_sideways_on_a_phone(open_page):
    page = open_page(390, 844)
    ask(page)
    page.get_by_role("button", name="Sampling").click()
    page.wait_for_timeout(500)
    widths = page.evaluate(
        """() => ({
            document: [document.documentElement.scrollWidth, document.documentElement.clientWidth],
            beyond: [...document.querySelectorAll('button, input, canvas, p, .answer, .block')]
                .filter(node => node.offsetParent && !node.closest('.examples, .frame nav'))
                .filter(node => node.getBoundingClientRect().right > innerWidth + 1)
                .map(node => node.outerHTML.slice(0, 120)),
        })"""
    )
    assert widths["document"][0] <= widths["document"][1]
    assert widths["beyond"] == []


def test_light_and_dark_are_one_press_apart_and_stay(page):
    before = page.evaluate("document.body.classList.contains('dark')")
    page.get_by_label("Light or dark").click()
    assert page.evaluate("document.body.classList.contains('dark')") != before
    page.reload()
    page.wait_for_selector(".stage[data-state]")
    assert page.evaluate("document.body.classList.contains('dark')") != before


LABEL = "label => document.querySelector('.side-a .player-button').getAttribute('aria-label') === label"


def test_the_keyboard_is_enough(page):
    page.locator("#question textarea").focus()
    page.keyboard.type(QUESTION)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "send"
    page.keyboard.press("Enter")
    answered(page, 1)
    player = page.locator(".side-a .player-button").first
    # The reply may be playing by itself; what the key does is told apart only once it has come to its end.
    page.wait_for_function(LABEL, arg="Play reply A", timeout=20_000)
    player.focus()
    page.keyboard.press("Enter")
    page.wait_for_function(LABEL, arg="Pause reply A", timeout=5_000)


def test_two_visitors_at_once_both_get_replies(open_page):
    pages = [open_page(), open_page()]
    for page in pages:
        page.locator("#question textarea").fill(QUESTION)
    for page in pages:
        page.locator("#question textarea").press("Enter")
    for page in pages:
        answered(page, 1)
        assert audible(*sound(page, ".side-b audio"))


def test_the_log_holds_no_traceback(page, app_log):
    assert "Traceback" not in app_log.read_text()
