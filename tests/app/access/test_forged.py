"""Forged paths, uploads and calls fetch nothing, are bounded and leave no trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.app.space_server import Server


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
