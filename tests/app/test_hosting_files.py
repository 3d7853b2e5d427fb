"""What a host reads before anything runs: the README's header, the requirements, the Dockerfile."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import yaml
from huggingface_hub import SpaceHardware
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]


def header() -> tuple[dict, str]:
    empty, front, rest = (ROOT / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert empty == ""
    return yaml.safe_load(front), rest


def requirements() -> dict[str, Requirement]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {each.name: each for each in wanted}


def test_the_header_is_one_that_a_space_accepts():
    told, _ = header()
    assert told["sdk"] == "gradio"
    assert requirements()["gradio"].specifier.contains(str(told["sdk_version"]))
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert told["python_version"] in SpecifierSet(requires)
    assert isinstance(told["python_version"], str)
    assert (ROOT / told["app_file"]).is_file()
    assert told["suggested_hardware"] in {each.value for each in SpaceHardware}
    assert told["hf_oauth"] is True
    assert told["license"] == "apache-2.0"
    assert len(told["short_description"]) <= 60


def test_the_readme_still_opens_with_what_it_is_a_picture_and_two_commands():
    _, rest = header()
    opening = rest.partition("\n## ")[0]
    title, what, picture, commands = opening.strip().split("\n\n")[:4]
    assert title == "# WavAlign Workbench"
    assert len(what) > 100
    assert picture.startswith("![")
    assert [line.split("#")[0].strip() for line in commands.splitlines()] == ["make run", "make test"]


def test_the_picture_is_there():
    shown = re.findall(r"!\[[^]]*\]\(([^)]+)\)", header()[1])
    assert shown
    assert all((ROOT / path).is_file() for path in shown)


def test_every_requirement_has_both_bounds():
    for wanted in requirements().values():
        signs = {each.operator for each in wanted.specifier}
        assert ">=" in signs, wanted
        assert "<" in signs, wanted


def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in whole.splitlines())]


def of(word: str) -> list[str]:
    return [rest for name, rest in instructions() if name == word]


def test_the_image_has_what_runs_and_nobody_is_root():
    sources = [source for rest in of("COPY") for source in shlex.split(rest)[:-1]]
    assert all((ROOT / source).exists() for source in sources)
    assert {"app", "wavalign", "evaluation", "assets", "app.py", "requirements.txt"} <= set(sources)
    words = [word for word, _ in instructions()]
    assert words.index("USER") < words.index("CMD")
    (user,) = of("USER")
    assert user != "root"
    assert f"--uid 1000 {user}" in of("RUN")[0]


def test_the_requirements_are_a_layer_of_their_own():
    words = [f"{word} {rest}" for word, rest in instructions()]
    install = next(place for place, line in enumerate(words) if "pip install" in line)
    assert words.index("COPY requirements.txt ./") < install < words.index("COPY app ./app")


def test_what_is_kept_is_a_volume_that_its_user_may_write():
    (volume,) = (json.loads(rest)[0] for rest in of("VOLUME"))
    variables = dict(part.split("=", 1) for rest in of("ENV") for part in shlex.split(rest))
    assert variables["WAVALIGN_HOME"] == volume
    assert f"chown {of('USER')[0]}:{of('USER')[0]} {volume}" in of("RUN")[0]
    assert variables["WAVALIGN_LISTEN"] == "0.0.0.0"
    assert variables["WAVALIGN_CONTAINER"] == "1"
    assert variables["WAVALIGN_PORT"] == of("EXPOSE")[0]


def test_what_the_image_leaves_out_is_nothing_that_it_copies():
    ignored = (ROOT / ".dockerignore").read_text().split()
    sources = {source.split("/")[0] for rest in of("COPY") for source in shlex.split(rest)[:-1]}
    assert not sources & set(ignored)
    assert {".git", ".venv"} <= set(ignored)
