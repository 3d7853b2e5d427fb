"""Every handler and every address of a running Space, asked for by anonymous visitors, forgers and hosts over HTTP."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio.routes import App
from playwright.sync_api import sync_playwright

from app import access
from app.access import Role, UndeclaredError
from app.frame import build
from app.gate import NOT_HERE
from app.guard import HOSTS_ONLY, act_behind, guard
from app.services import Services
from app.settings import Settings
from tests.app.assets import make_tiny_assets
from tests.app.space_server import CLIENT_SECRET, TOKEN, Server, running_space
from tests.browser import chromium

HOST_PAGES = sorted(page for page, role in access.PAGES.items() if role is Role.HOST)


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_assets(tmp_path_factory.mktemp("assets"))


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory, assets: Path) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("home")
    with running_space(home, assets, tmp_path_factory.mktemp("log") / "app.log") as server:
        yield server


@pytest.fixture(scope="module")
def config(space: Server) -> dict[str, Any]:
    """All of it, which only the host gets."""
    with space.host() as host:
        return host.get("/config").json()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, assets: Path) -> gr.Blocks:
    return build(Services(Settings(tmp_path_factory.mktemp("built"), assets)))


def called(client: httpx.Client, index: int, data: list[Any], session: str) -> str:
    """What comes of an event, by the queue: the text of its end."""
    body = {"fn_index": index, "data": data, "session_hash": session, "event_data": None, "trigger_id": None}
    joined = client.post("/gradio_api/queue/join", json=body)
    if joined.status_code != 200:
        return joined.text
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as lines:
        for line in lines.iter_lines():
            if "process_completed" in line or "unexpected_error" in line:
                return line
    return ""


def event_named(config: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in config["dependencies"] if each["api_name"] == name)


def labelled(config: dict[str, Any], label: str) -> int:
    return next(each["id"] for each in config["components"] if each["props"].get("label") == label)


def component(config: dict[str, Any], name: str) -> int:
    return next(each["id"] for each in config["components"] if each["props"].get("elem_id") == name)


def asked(client: httpx.Client, config: dict[str, Any], place: str, function: str, message: Any) -> httpx.Response:
    body = {"data": message, "component_id": component(config, place), "session_hash": "s", "fn_name": function}
    return client.post("/gradio_api/component_server/", json=body)  # as pages do


def test_every_handler_has_a_declared_role(built: gr.Blocks) -> None:
    events = [event for event in built.fns.values() if event.fn is not None]
    assert len(events) > 30
    for event in events:
        assert act_behind(event.fn).role >= access.PAGES[event.page], event.name


def test_a_block_that_a_session_makes_anew_keeps_its_functions_guarded(built: gr.Blocks) -> None:
    [block] = [each for each in built.blocks.values() if each.elem_id == "train"]
    again = gr.HTML(**{**block.constructor_args, "render": False})
    assert act_behind(again.train).role is Role.HOST


def test_every_declared_handler_exists(built: gr.Blocks) -> None:
    there = {(event.page, event.name) for event in built.fns.values() if event.fn is not None}
    there |= {
        (block.page, name)
        for block in built.blocks.values()
        for name in access.HANDLERS[block.page]
        if hasattr(block, name)
    }
    declared = {(page, name) for page, names in access.HANDLERS.items() for name in names}
    assert declared - there == {("arena", "signed")}  # only where there is a login


def test_an_app_with_an_undeclared_handler_does_not_start() -> None:
    with gr.Blocks() as demo:
        gr.Button().click(lambda: None)
    with pytest.raises(UndeclaredError, match="Name it in app"):
        guard(demo, None)
    with gr.Blocks() as demo:
        gr.HTML(server_functions=[_unnamed])
    with pytest.raises(UndeclaredError, match="_unnamed"):
        guard(demo, None)


def _unnamed(message: Any) -> None: ...


def test_no_event_of_a_host_page_answers_a_visitor(space: Server, config: dict[str, Any]) -> None:
    walked = 0
    with space.client() as visitor:
        for page in HOST_PAGES:
            for index in config["page"][page]["dependencies"]:
                event = next(each for each in config["dependencies"] if each["id"] == index)
                if not event["backend_fn"]:
                    continue
                data = [None] * len(event["inputs"])
                assert HOSTS_ONLY in called(visitor, index, data, f"walk{index}"), event["api_name"]
                ran = visitor.post("/gradio_api/run/predict", json={"fn_index": index, "data": data})
                assert ran.status_code in (404, 500)  # not by this way, or refused by the guard
                assert '"data"' not in ran.text
                walked += 1
    assert walked >= 8


ACTS = [
    ("train", "train", {"do": "demo"}),
    ("train", "train", {"do": "hello"}),
    ("evaluate", "evaluate", {"do": "hello"}),
    ("points", "checkpoints", {"do": "watch"}),
    ("points", "checkpoints", {"do": "remove", "name": "closedtalk-tuned"}),
    ("preferences", "preferences", {"do": "browse"}),
    ("preferences", "arena", {"do": "hello"}),
]


def test_no_function_of_a_host_page_answers_a_visitor_or_another_account(space: Server, config: dict[str, Any]) -> None:
    for client in (space.client(), space.signed_in("bob")):
        with client:
            for place, function, message in ACTS:
                answer = asked(client, config, place, function, message)
                assert HOSTS_ONLY in answer.text, (place, message)
                assert set(answer.json()) <= {"error", "closed"}
    with space.host() as host:
        assert asked(host, config, "train", "train", {"do": "watch"}).json()["runs"] == []
        names = {
            each["name"] for each in asked(host, config, "points", "checkpoints", {"do": "watch"}).json()["checkpoints"]
        }
    assert "closedtalk-tuned" in names


def test_only_functions_that_pages_name_can_be_called(space: Server, config: dict[str, Any]) -> None:
    with space.host() as host:
        for name in ("postprocess", "__init__", "get_config", "unload"):
            assert asked(host, config, "train", name, {}).status_code == 404


@pytest.mark.parametrize("page", HOST_PAGES)
def test_a_host_page_says_what_it_is_and_no_more(space: Server, page: str) -> None:
    with space.client() as visitor:
        closed = visitor.get(f"/{page}")
        assert closed.status_code == 403
        assert "This page is the host's." in closed.text
        assert "Sign in with Hugging Face" in closed.text
        assert "gradio_config" not in closed.text
    with space.signed_in("bob") as bob:
        assert "bob, who is no owner here" in bob.get(f"/{page}").text
    with space.host() as host:
        assert "gradio_config" in host.get(f"/{page}").text


def test_every_address_that_is_not_declared_is_not_there(space: Server, built: gr.Blocks) -> None:
    closed = set()
    with space.client() as visitor, space.host() as host:
        for route in App.create_app(built).routes:
            path = re.sub(r"\{[^}]*\}", "x", getattr(route, "path", "")) or "/nothing"
            for method in (getattr(route, "methods", None) or {"GET"}) - {"HEAD"}:
                if access.role_of_route(method, path) is None:
                    closed.add(path)
                    for client in (visitor, host):
                        answer = client.request(method, path)
                        assert (answer.status_code, answer.text) == (404, NOT_HERE), (method, path)
    for known in (
        "/monitoring",
        "/gradio_api/proxy=x",
        "/gradio_api/vibe-edit",
        "/gradio_api/process_recording",
        "/gradio_api/stream/x",
        "/gradio_api/deep_link",
        "/gradio_api/token",
        "/gradio_api/call/x",
        "/docs",
    ):
        assert known in closed or access.role_of_route("GET", known) is None


def test_nothing_that_a_visitor_is_sent_names_the_machine(space: Server, assets: Path) -> None:
    repository = str(Path(__file__).resolve().parents[2])
    secret = (space.home / "secret.key").read_bytes().hex()
    with space.client() as visitor:
        texts = [
            visitor.get(path).text
            for path in (
                "/",
                "/arena",
                "/leaderboard",
                "/train",
                "/config",
                "/config?page=train",
                "/config?page=",
                "/host",
                "/gradio_api/info?all_endpoints=true",
                "/healthz",
                "/readyz",
                "/manifest.json",
                "/nothing",
            )
        ]
    for text in texts:
        for private in (str(space.home), str(assets), repository, secret, CLIENT_SECRET, TOKEN, "198.51.100.1"):
            assert private not in text
        assert "train-form" not in text


def test_only_the_host_is_told_of_the_host_pages(space: Server, config: dict[str, Any]) -> None:
    with space.client() as visitor:
        seen = {
            each["id"]
            for path in ("/config", "/config?page=train&page=", "/config/?page=points")
            for each in visitor.get(path).json()["components"]
        }
    for page in HOST_PAGES:
        assert not seen & set(config["page"][page]["components"])


def test_files_of_others_and_of_the_machine_cannot_be_fetched(space: Server) -> None:
    name = "A" * 24 + ".wav"
    (space.home / "recordings" / name).write_bytes(b"RIFF")
    (space.home / "recordings" / "archive.zip").write_bytes(b"PK")
    home = space.home
    tried = [
        f"/gradio_api/file={home}/secret.key",
        f"/gradio_api/file={home}/recordings/{name}",
        f"/gradio_api/file={home}/recordings/archive.zip",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=../../../../etc/passwd",
        "/gradio_api/file=..%2f..%2fetc%2fpasswd",
        "/gradio_api/file=app.py",
        "/gradio_api/file=file:///etc/passwd",
        "/gradio_api/file=http://127.0.0.1/x.wav",
        "/gradio_api/file=https://example.org/x.wav",
        f"/gradio_api/file/{home}/secret.key",
        f"/file={home}/secret.key",
        "/recordings/",
        "/recordings/archive.zip",
        "/recordings/..%2fsecret.key",
        "/recordings/../secret.key",
        f"/recordings/{'B' * 24}.wav",
        "/static/../../../../etc/passwd",
        "/static/..%2f..%2f..%2fconfig.py",
        "/assets/%2fetc%2fpasswd",
        "/svelte/../../routes.py",
    ]
    with space.client() as visitor:
        for path in tried:
            assert visitor.get(path).status_code in (403, 404), path
        assert visitor.get(f"/recordings/{name}").content == b"RIFF"  # who was told the name


def test_what_a_visitor_uploads_is_fetched_by_its_unguessable_name_and_no_program_is(space: Server) -> None:
    with space.client() as visitor:
        [sound] = visitor.post("/gradio_api/upload", files={"files": ("a.wav", b"RIFF1234")}).json()
        [program] = visitor.post("/gradio_api/upload", files={"files": ("a.exe", b"MZ")}).json()
        assert visitor.get(f"/gradio_api/file={sound}").content == b"RIFF1234"
        assert visitor.get(f"/gradio_api/file={program}").status_code == 403
        folder = Path(sound).parent
        assert visitor.get(f"/gradio_api/file={folder}").status_code == 403
        assert len(folder.name) == 64


def test_an_upload_beyond_the_bound_is_refused_whatever_it_claims(space: Server) -> None:
    def endless() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\n'
        for _ in range(40):
            yield b"0" * 1_000_000

    with space.client(address="198.51.100.7") as visitor:
        kind = {"content-type": "multipart/form-data; boundary=x"}
        try:
            answer = visitor.post("/gradio_api/upload", content=endless(), headers=kind)
        except httpx.TransportError:  # the connection was closed in the middle
            return
        assert answer.status_code == 413


def test_calls_are_bounded_and_fetch_nothing_from_elsewhere(space: Server) -> None:
    away = {"path": "http://127.0.0.1:1/x.wav", "meta": {"_type": "gradio.FileData"}}
    with space.client() as visitor:
        body = {"fn_index": 0, "session_hash": "a", "data": [None, None, None, away]}
        assert visitor.post("/gradio_api/queue/join", json=body).status_code == 422
        assert visitor.post("/gradio_api/queue/join", content=b"[" * 100_000).status_code == 400
        assert visitor.post("/gradio_api/queue/join", content=b'"' + b"x" * 3_000_000 + b'"').status_code == 413


def test_junk_sent_to_a_handler_is_refused_in_a_sentence_and_leaves_no_trace(space: Server) -> None:
    before = space.log.read_text().count("Traceback")
    bodies = [{}, [], 5, {"data": []}, {"data": "x"}, {"fn_index": 0, "data": []}, {"fn_index": 0, "data": [1] * 99}]
    bodies += [{"fn_index": each, "data": []} for each in (-1, 10**9, "0", [], True)]
    with space.client(address="198.51.100.23") as visitor:
        for path in ("queue/join", "run/predict", "run/send", "component_server/", "cancel", "reset"):
            for body in bodies:
                answer = visitor.post(f"/gradio_api/{path}", json=body)
                assert answer.status_code in (400, 404, 422), (path, body, answer.text)
                assert "detail" in answer.json()
    assert space.log.read_text().count("Traceback") == before


def test_another_sites_page_may_not_call_with_the_hosts_cookies(space: Server, config: dict[str, Any]) -> None:
    with space.host() as host:
        for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
            host.headers.update(headers)
            assert asked(host, config, "train", "train", {"do": "demo"}).status_code == 403
            assert len(host.get("/config").json()["components"]) < len(config["components"])
            for name in headers:
                del host.headers[name]


@pytest.mark.parametrize(
    ("who", "comes_in"),
    [
        ({"name": "ann"}, True),
        ({"name": "ann", "secret": "another secret"}, False),
        ({"name": "ann", "secret": ""}, False),
        ({"name": "ann", "seconds": -1.0}, False),
        ({"name": "bob"}, False),
        ({"name": "Ann"}, False),
        ({"name": "cat", "orgs": [{"preferred_username": "team", "roleInOrg": "write"}]}, True),
        ({"name": "cat", "orgs": [{"preferred_username": "team", "roleInOrg": "read"}]}, False),
        ({"name": "cat", "orgs": [{"preferred_username": "others", "roleInOrg": "admin"}]}, False),
        ({"name": "cat", "orgs": [{"preferred_username": "team", "roleInOrg": "admin", "missingMFA": True}]}, False),
    ],
    ids=str,
)
def test_who_the_login_makes_a_host(space: Server, who: dict[str, Any], comes_in: bool) -> None:
    with space.signed_in(**who) as client:
        assert client.get("/train").status_code == (200 if comes_in else 403)


def test_a_login_service_that_is_away_is_a_sentence(space: Server) -> None:
    with space.client() as visitor:
        answer = visitor.get("/login/huggingface?_target_url=/arena")
    assert answer.status_code == 503
    assert "does not answer: try again in a minute" in answer.text


def test_coming_back_from_the_login_without_one_is_a_sentence(space: Server) -> None:
    with space.client() as visitor:
        for asked in ("error=access_denied&state=x", "code=c&state=forged", ""):
            answer = visitor.get(f"/login/callback?{asked}")
            assert answer.status_code in (302, 307, 400), asked
        assert "Nobody was signed in" in visitor.get("/login/callback?error=access_denied&state=x").text
    assert "could not sign in: OAuthError 'access_denied" in space.log.read_text()  # the host learns why


def test_the_token_makes_a_browser_the_hosts_until_it_leaves(space: Server) -> None:
    with space.client() as browser:
        wrong = browser.post("/host", data={"token": TOKEN[:-1] + "x"})
        assert wrong.status_code == 403
        assert "not this workbench" in wrong.text
        assert not wrong.cookies
        right = browser.post("/host", data={"token": TOKEN, "to": "train"})
        cookie = right.headers["set-cookie"]
        assert right.status_code == 303
        assert "HttpOnly" in cookie
        assert TOKEN not in cookie
        kept = cookie.split(";")[0]
        assert browser.get("/train", headers={"cookie": kept}).status_code == 200
        assert (
            browser.get("/train", headers={"cookie": kept[:-1] + ("0" if kept[-1] != "0" else "1")}).status_code == 403
        )
        assert "Max-Age=0" in browser.post("/host/leave", headers={"cookie": kept}).headers["set-cookie"]
    assert TOKEN not in space.log.read_text()


def test_tokens_cannot_be_tried_without_end(space: Server) -> None:
    with space.client(address="198.51.100.9") as thief:
        tries = [thief.post("/host", data={"token": f"guess {number}"}).status_code for number in range(12)]
    assert tries == [403] * 10 + [429] * 2


def test_a_visitor_reaches_what_is_theirs(space: Server, config: dict[str, Any]) -> None:
    with space.client() as visitor:
        token = asked(visitor, config, "arena", "arena", {"do": "hello"}).json()["token"]
        assert asked(visitor, config, "arena", "arena", {"do": "mine", "token": token}).json() == {"mine": []}
    with space.signed_in("bob") as bob:
        assert "token" not in asked(bob, config, "arena", "arena", {"do": "hello"}).json()


def test_a_visitor_talks_hears_and_takes_the_conversation_along(space: Server, config: dict[str, Any]) -> None:
    values = {each["id"]: each["props"].get("value") for each in config["components"]}
    said = {component(config, "question"): "what is two plus two", labelled(config, "Longest reply (s)"): 1}
    said[component(config, "as-recommended")] = False
    ask, after = (event_named(config, name) for name in ("send_text", "afterwards"))
    with space.client(address="198.51.100.6") as visitor:
        data = [said.get(id, values[id]) for id in ask["inputs"]]
        ended = called(visitor, ask["id"], data, "talker")
        assert json.loads(ended.removeprefix("data: "))["success"]
        ended = called(visitor, after["id"], [None], "talker")
        [archive] = re.findall(r'"url":"[^"]*/gradio_api/file=([^"]*conversation.zip)"', ended)
        fetched = visitor.get(f"/gradio_api/file={archive}")
        with zipfile.ZipFile(io.BytesIO(fetched.content)) as held:
            assert any(name.endswith(".json") for name in held.namelist())
        for private in (str(space.home), str(Path(__file__).parents[2])):
            assert private not in ended


def test_a_forged_account_of_a_rater_is_nobody(space: Server, config: dict[str, Any]) -> None:
    with space.signed_in("bob", secret="guessed") as forger:
        assert "token" in asked(forger, config, "arena", "arena", {"do": "hello"}).json()


def test_too_many_questions_are_told_when_to_come_back(space: Server, config: dict[str, Any]) -> None:
    index = event_named(config, "send_text")
    values = {each["id"]: each["props"].get("value") for each in config["components"]}
    data = [values[id] for id in index["inputs"]]
    with space.client(address="198.51.100.8") as visitor:
        ends = [called(visitor, index["id"], data, "hasty") for _ in range(21)]
    assert "come back in" not in ends[19]
    assert "That is 20 questions within a minute" in ends[20]
    assert json.loads(ends[20].removeprefix("data: "))["success"] is False


def test_the_printed_link_makes_a_browser_the_hosts_and_it_stays_so(space: Server) -> None:
    """The token is behind #, which no server sees; pages offer what one may open."""
    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=chromium.find(), args=["--no-sandbox"])
        page = chrome.new_page()
        page.set_default_timeout(60_000)
        sent = []
        page.on("request", lambda request: sent.append(request.url))
        page.goto(f"{space.address}/train")
        page.get_by_text("This page is the host's.").wait_for()
        assert page.locator(".frame nav a").all_inner_texts() == ["Talk", "Arena", "Leaderboard"]
        page.goto(f"{space.address}/host#{TOKEN}")
        page.locator(".frame nav a", has_text="Train").wait_for()
        assert not [url for url in sent if TOKEN in url.split("#")[0]]
        page.goto(f"{space.address}/host")
        page.get_by_role("button", name="Sign out").click()
        page.locator(".frame-door", has_text="Host").wait_for()
        page.goto(f"{space.address}/train")
        page.get_by_text("This page is the host's.").wait_for()
        chrome.close()
