"""Publishing a Space: says what it will do, asks, does it once. Against a hub in this process."""

from __future__ import annotations

from collections.abc import Iterator

import huggingface_hub.constants
import pytest
from huggingface_hub import HfApi

from app.publish import main
from app.publish_plan import ROOT, shipped
from tests.app.fake_spaces_hub import FakeSpaces, Repo, fake_spaces_hub

ENVIRONMENT = {"HF_TOKEN": "hf_writestothedataset", "KEY_OF_MINE": "a-value-nobody-sees"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSpaces]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    with fake_spaces_hub() as made:
        yield made


@pytest.fixture
def one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """For claims about settings, which do not wait for all files to be read."""
    monkeypatch.setattr("app.publish_plan.SHIPPED", ("app.py",))


def publish(hub: FakeSpaces, *arguments: str, answer: str = "y", environment: dict[str, str] = ENVIRONMENT) -> int:
    api = HfApi(endpoint=hub.url, token="hf_test")
    return main(["ann/arena", *arguments], api=api, environment=environment, asks=lambda _: answer)


def test_it_says_what_it_will_do_and_without_a_yes_does_nothing(hub: FakeSpaces, capsys):
    assert publish(hub, "--hardware", "t4-small", "--secret", "KEY_OF_MINE", answer="") == 1
    said = capsys.readouterr().out
    assert hub.log == []
    for part in (
        "Space ann/arena: made, public",
        "hardware t4-small (billed by the hour",
        "variable WAVALIGN_PUSH_BACKUP=ann/arena-votes",
        "secret KEY_OF_MINE (from your environment, not shown)",
        "secret WAVALIGN_SECRET (made now, not shown)",
        "Dataset ann/arena-votes: made, private",
        "Nothing was done.",
    ):
        assert part in said
    for value in ENVIRONMENT.values():
        assert value not in said


def test_a_space_and_its_private_dataset_are_made_settings_before_files(hub: FakeSpaces):
    assert publish(hub, "--hardware", "zero-a10g", "--variable", "WAVALIGN_OWNERS=ann,bob") == 0
    space = hub.space("ann/arena")
    assert (space.sdk, space.private, space.hardware) == ("gradio", False, "zero-a10g")
    assert hub.repos["datasets/ann/arena-votes"].private
    assert space.variables == {"WAVALIGN_OWNERS": "ann,bob", "WAVALIGN_PUSH_BACKUP": "ann/arena-votes"}
    assert space.secrets["HF_TOKEN"] == ENVIRONMENT["HF_TOKEN"]
    assert len(space.secrets["WAVALIGN_SECRET"]) >= 32
    assert hub.log.index("commit") > max(place for place, what in enumerate(hub.log) if what.startswith("secrets"))
    assert set(space.files) == set(shipped(ROOT))


def test_what_is_uploaded_is_what_runs():
    files = set(shipped(ROOT))
    assert {"app.py", "README.md", "requirements.txt", "assets/closedtalk-base/model.safetensors"} <= files
    assert "app/pages/talk.py" in files
    assert not [name for name in files if name.startswith(("tests/", ".")) or "__pycache__" in name or "/." in name]


def test_the_second_time_only_what_changed_is_done_and_its_secrets_stay(hub: FakeSpaces):
    publish(hub, "--hardware", "zero-a10g", "--yes")
    secret = hub.space("ann/arena").secrets["WAVALIGN_SECRET"]
    hub.space("ann/arena").files |= {"old.py": 3, ".gitattributes": 5}
    hub.log.clear()
    assert publish(hub, "--hardware", "zero-a10g", "--yes", environment={}) == 0
    assert hub.space("ann/arena").secrets["WAVALIGN_SECRET"] == secret
    # The Hub's own file stays: it says which files are large.
    assert set(hub.space("ann/arena").files) == {*shipped(ROOT), ".gitattributes"}
    assert hub.log == ["commit"]


@pytest.mark.usefixtures("one_file")
def test_a_backup_stays_until_the_host_names_another(hub: FakeSpaces, capsys):
    publish(hub, "--backup", "ann/mine", "--votes", "ann/open", "--yes")
    hub.log.clear()
    capsys.readouterr()
    assert publish(hub, "--yes") == 0
    assert "Votes are still copied to ann/mine and come back from there" in capsys.readouterr().out
    assert hub.log == ["commit"]
    kept = {"WAVALIGN_PUSH_BACKUP": "ann/mine", "WAVALIGN_PUSH_VOTES": "ann/open"}
    assert hub.space("ann/arena").variables == kept
    assert publish(hub, "--backup", "ann/other", "--yes") == 0
    assert "What was copied to ann/mine stays there, and comes back no more." in capsys.readouterr().out
    assert hub.space("ann/arena").variables == kept | {"WAVALIGN_PUSH_BACKUP": "ann/other"}
    assert publish(hub, "--backup", "ann/open", "--yes") == 1
    assert "two datasets" in capsys.readouterr().err


@pytest.mark.usefixtures("one_file")
def test_a_backup_that_is_not_wanted_any_more_ends(hub: FakeSpaces, capsys):
    publish(hub, "--backup", "ann/mine", "--yes")
    hub.log.clear()
    capsys.readouterr()
    assert publish(hub, "--no-backup", "--yes") == 0
    said = capsys.readouterr().out
    assert "variable WAVALIGN_PUSH_BACKUP deleted" in said
    assert "No backup" in said
    assert hub.log == ["delete variables WAVALIGN_PUSH_BACKUP", "commit"]
    assert hub.space("ann/arena").variables == {}


@pytest.mark.usefixtures("one_file")
def test_sleep_visibility_and_bucket_of_an_existing_space_are_changed_once(hub: FakeSpaces, capsys):
    publish(hub, "--hardware", "t4-small", "--yes")
    hub.log.clear()
    wanted = ("--hardware", "t4-small", "--sleep", "600", "--private", "--bucket", "ann/disk", "--yes")
    capsys.readouterr()
    assert publish(hub, *wanted) == 0
    said = capsys.readouterr().out
    assert "sleeps after 600 seconds of no visits" in said
    assert "seen by its owners only from now on" in said
    assert hub.log == ["visibility private", "bucket", "volumes", "commit", "sleep 600"]
    assert (hub.space("ann/arena").private, hub.space("ann/arena").sleep) == (True, 600)
    hub.log.clear()
    assert publish(hub, *wanted) == 0
    assert publish(hub, "--yes") == 0  # what is not named stays
    assert hub.log == ["commit", "commit"]
    assert "seconds" not in capsys.readouterr().out
    publish(hub, "--no-private", "--yes")
    assert not hub.space("ann/arena").private


def test_a_bucket_is_mounted_where_the_app_looks(hub: FakeSpaces):
    assert publish(hub, "--bucket", "ann/arena-data", "--yes") == 0
    (volume,) = hub.space("ann/arena").volumes
    assert (volume["type"], volume["source"], volume["mountPath"]) == ("bucket", "ann/arena-data", "/data")


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--backup", "votes"], ENVIRONMENT, "not of the form USER/NAME"),
        (["--secret", "NOT_THERE"], ENVIRONMENT, "NOT_THERE is not set"),
        (["--secret", "KEY=value"], ENVIRONMENT, "give the name, not the value"),
        (["--variable", "nothing"], ENVIRONMENT, "NAME=VALUE"),
        (["--votes", "ann/arena-votes"], ENVIRONMENT, "two datasets"),
        ([], {}, "set HF_TOKEN, or use --no-backup"),
        (["--variable", "HF_TOKEN=x"], ENVIRONMENT, "both a secret and a variable"),
        (["--backup", "ann/open"], ENVIRONMENT, "ann/open is public"),
        (["--variable", "WAVALIGN_PUSH_BACKUP=ann/x"], ENVIRONMENT, "Use --backup or --no-backup"),
        (["--sleep", "600"], ENVIRONMENT, "--sleep is for paid hardware: cpu-basic"),
    ],
)
def test_what_does_not_fit_is_one_sentence_and_nothing_is_done(
    hub: FakeSpaces, capsys, arguments: list[str], environment: dict[str, str], said: str
):
    hub.repos["datasets/ann/open"] = Repo(private=False)
    assert publish(hub, *arguments, "--yes", environment=environment) == 1
    assert said in capsys.readouterr().err
    assert hub.log == []


def test_without_copies_no_token_is_needed_and_it_says_what_is_lost(hub: FakeSpaces, capsys):
    assert publish(hub, "--no-backup", "--yes", environment={}) == 0
    assert "is lost when the Space restarts" in capsys.readouterr().out
    assert set(hub.space("ann/arena").secrets) == {"WAVALIGN_SECRET"}


def test_what_the_hub_refuses_is_a_sentence(hub: FakeSpaces, capsys):
    hub.refuses = "/secrets"
    assert publish(hub, "--yes") == 1
    said = capsys.readouterr().err
    assert said.startswith("Cannot publish: the Hub refused")
    assert ENVIRONMENT["HF_TOKEN"] not in said


def test_a_hub_that_is_away_is_a_sentence(capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    api = HfApi(endpoint="http://127.0.0.1:9", token="hf_test")
    assert main(["ann/arena", "--yes"], api=api, environment=ENVIRONMENT) == 1
    assert "cannot be reached" in capsys.readouterr().err
