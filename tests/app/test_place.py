"""What differs by host is decided in one place: the kind, who owns it, what lasts, where it listens."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from app.place import FOLDER, Place, PlaceError, can_write
from app.settings import Settings, SettingsError

SPACE = {
    "SPACE_ID": "ann/arena",
    "SPACE_AUTHOR_NAME": "ann",
    "SPACE_HOST": "ann-arena.hf.space, arena.example.org",
    "SYSTEM": "spaces",
}
LOGIN = {
    "OAUTH_CLIENT_ID": "id",
    "OAUTH_CLIENT_SECRET": "secret",
    "OAUTH_SCOPES": "openid profile",
    "OPENID_PROVIDER_URL": "https://huggingface.co",
}


@pytest.fixture
def nothing_mounted(tmp_path: Path) -> Path:
    return mounts(tmp_path, "overlay / overlay rw 0 0\n")


def mounts(folder: Path, text: str) -> Path:
    path = folder / "mounts"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_laptop_listens_to_itself_alone_and_has_no_owners():
    place = Place.from_environment({})
    assert place == Place()
    assert (place.kind, place.listen, place.port) == ("local", "127.0.0.1", None)
    assert not place.beyond_loopback
    assert not place.forgets


@pytest.mark.parametrize("named", ["proxy.example.org", "10.0.0.0/33", "10.0.0.1/8", "*"])
def test_a_proxy_that_is_no_address_is_refused(named: str):
    assert Place.from_environment({"WAVALIGN_PROXIES": " , "}).proxies == ()
    with pytest.raises(PlaceError, match="WAVALIGN_PROXIES must be addresses or networks"):
        Place.from_environment({"WAVALIGN_PROXIES": f"10.0.0.5,{named}"})


def test_a_space_is_reached_by_all_at_the_port_that_is_shown(nothing_mounted: Path):
    place = Place.from_environment(SPACE, mounts=nothing_mounted)
    assert (place.kind, place.space, place.owner) == ("space", "ann/arena", "ann")
    assert place.hosts == ("ann-arena.hf.space", "arena.example.org")
    assert (place.listen, place.port, place.beyond_loopback) == ("0.0.0.0", 7860, True)
    assert place.forgets
    assert not place.borrows_gpu


def test_a_space_whose_author_is_not_said_belongs_to_the_first_half_of_its_name(nothing_mounted: Path):
    assert Place.from_environment({"SPACE_ID": "team/arena"}, mounts=nothing_mounted).owner == "team"


@pytest.mark.parametrize(("said", "kind"), [("true", "zerogpu"), ("1", "zerogpu"), ("false", "space"), ("", "space")])
def test_a_borrowed_gpu_is_told_by_its_variable(said: str, kind: str, nothing_mounted: Path):
    place = Place.from_environment(SPACE | {"SPACES_ZERO_GPU": said}, mounts=nothing_mounted)
    assert place.kind == kind
    assert place.borrows_gpu == (kind == "zerogpu")


def test_that_variable_alone_makes_no_space():
    assert Place.from_environment({"SPACES_ZERO_GPU": "true"}).kind == "local"


def test_owners_are_the_spaces_and_those_the_host_names(nothing_mounted: Path):
    environment = SPACE | {"WAVALIGN_OWNERS": "bob, ,eve"}
    assert Place.from_environment(environment, mounts=nothing_mounted).owners == {"ann", "bob", "eve"}


@pytest.mark.parametrize("missing", [None, *LOGIN])
def test_people_can_sign_in_where_all_that_it_takes_is_set(missing: str | None, nothing_mounted: Path):
    environment = {name: value for name, value in (SPACE | LOGIN).items() if name != missing}
    assert Place.from_environment(environment, mounts=nothing_mounted).has_login == (missing is None)


def test_nobody_signs_in_with_an_account_on_a_laptop():
    assert not Place.from_environment(LOGIN).has_login


def test_a_disk_that_is_mounted_and_can_be_written_is_where_things_are_kept(tmp_path: Path):
    disk = tmp_path / "data"
    table = mounts(tmp_path, f"overlay / overlay rw 0 0\n/dev/sdb {disk} ext4 rw 0 0\n")
    place = Place.from_environment(SPACE, disk=disk, mounts=table)
    assert (place.persistent, place.bucket, place.forgets) == (disk, None, False)
    assert place.home({"HOME": str(tmp_path)}) == (disk / FOLDER, None)


def test_a_mounted_bucket_is_no_place_for_a_database(tmp_path: Path):
    disk = tmp_path / "data"
    place = Place.from_environment(SPACE, disk=disk, mounts=mounts(tmp_path, f"hf {disk} fuse.hf-mount rw 0 0\n"))
    assert (place.persistent, place.bucket, place.forgets) == (None, disk, True)
    assert place.home({"HOME": str(tmp_path)}) == (tmp_path / ".cache" / FOLDER, None)


def test_a_folder_that_is_not_mounted_outlives_nothing(tmp_path: Path, nothing_mounted: Path):
    disk = tmp_path / "data"
    disk.mkdir()
    assert Place.from_environment(SPACE, disk=disk, mounts=nothing_mounted).persistent is None


def test_a_mount_that_cannot_be_written_is_none(tmp_path: Path):
    table = mounts(tmp_path, f"/dev/sdb {tmp_path}/data ext4 ro 0 0\n")
    place = Place.from_environment(SPACE, disk=tmp_path / "data", mounts=table, writable=lambda folder: False)
    assert place.persistent is None


def test_a_mount_of_that_name_on_a_laptop_is_somebody_elses(tmp_path: Path):
    table = mounts(tmp_path, f"/dev/sdb {tmp_path}/data ext4 rw 0 0\n")
    assert Place.from_environment({}, disk=tmp_path / "data", mounts=table).persistent is None


@pytest.mark.parametrize(
    ("environment", "listen", "beyond"),
    [
        ({"WAVALIGN_LISTEN": "0.0.0.0"}, "0.0.0.0", True),
        ({"GRADIO_SERVER_NAME": "0.0.0.0"}, "0.0.0.0", True),
        ({"WAVALIGN_LISTEN": "127.0.0.1", "GRADIO_SERVER_NAME": "0.0.0.0"}, "127.0.0.1", False),
        ({"WAVALIGN_LISTEN": "127.8.8.8"}, "127.8.8.8", False),
        ({"WAVALIGN_LISTEN": "::1"}, "::1", False),
        ({"WAVALIGN_LISTEN": "localhost"}, "localhost", False),
        ({"WAVALIGN_LISTEN": "::"}, "::", True),
        ({"WAVALIGN_LISTEN": "box.example.org"}, "box.example.org", True),
    ],
)
def test_the_host_says_who_can_reach_the_app(environment: dict[str, str], listen: str, beyond: bool):
    place = Place.from_environment(environment)
    assert (place.listen, place.beyond_loopback) == (listen, beyond)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WAVALIGN_LISTEN", "http://0.0.0.0"),
        ("WAVALIGN_LISTEN", "0.0.0.0:80"),
        ("WAVALIGN_PORT", "0"),
        ("WAVALIGN_PORT", "²"),
        ("WAVALIGN_SLICE_SECONDS", "5"),
        ("WAVALIGN_SLICE_SECONDS", "-60"),
        ("WAVALIGN_REPLY_SECONDS", "4000"),
        ("WAVALIGN_SLICE_SECONDS", "soon"),
    ],
)
def test_what_cannot_be_used_is_named(name: str, value: str):
    with pytest.raises(PlaceError, match=name):
        Place.from_environment({name: value})
    with pytest.raises(SettingsError, match=name):
        Settings.from_environment({name: value})


def test_what_is_kept_goes_where_the_host_says(tmp_path: Path):
    environment = {"WAVALIGN_HOME": str(tmp_path / "mine"), "HOME": str(tmp_path)}
    assert Place().home(environment) == (tmp_path / "mine", None)


def test_a_named_home_that_cannot_be_written_is_not_replaced(tmp_path: Path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(PlaceError, match="WAVALIGN_HOME"):
        Place().home({"WAVALIGN_HOME": str(tmp_path / "file" / "home")})


def test_a_read_only_home_is_told_of_and_worked_around(tmp_path: Path):
    def writable(folder: Path) -> bool:
        return not folder.is_relative_to("/home")

    home, note = Place().home({"HOME": "/home/user", "TMPDIR": str(tmp_path)}, writable)
    assert home.parent == tmp_path
    assert note is not None
    assert "/home/user/.cache/wavalign-workbench cannot be written" in note
    assert "WAVALIGN_HOME" in note


def test_without_any_place_to_write_there_is_one_sentence():
    with pytest.raises(PlaceError, match="set WAVALIGN_HOME"):
        Place().home({"HOME": "/home/user"}, lambda folder: False)


def test_a_user_that_the_system_does_not_know_has_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    home, note = Place().home({"TMPDIR": str(tmp_path)})
    assert home.parent == tmp_path
    assert note is not None
    assert note.startswith("There is no home folder")


def test_writing_is_tried_and_leaves_nothing(tmp_path: Path):
    assert can_write(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert not can_write(tmp_path / "file" / "below")


def test_settings_are_those_of_the_place(tmp_path: Path):
    settings = Settings.from_environment({"HOME": str(tmp_path), "WAVALIGN_LISTEN": "0.0.0.0", "WAVALIGN_PORT": "9000"})
    assert settings.home == tmp_path / ".cache" / FOLDER
    assert (settings.port, settings.place.beyond_loopback, settings.notes) == (9000, True, ())


def test_a_borrowed_gpu_without_the_package_that_borrows_it_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, value in (SPACE | {"SPACES_ZERO_GPU": "true", "WAVALIGN_HOME": str(tmp_path / "home")}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr("app.logs.configure", lambda: None)
    monkeypatch.setitem(sys.modules, "spaces", None)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(Path(__file__).resolve().parents[2] / "app.py"))["main"]()
    assert str(ended.value).startswith("Cannot start: a GPU is to be borrowed")
    assert "pip install spaces" in str(ended.value)
