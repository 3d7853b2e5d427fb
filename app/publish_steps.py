"""Carries out what publishing a Space plans: what is private first, the files when all that they need is there."""

from __future__ import annotations

import warnings

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, Volume

from app.publish_plan import ROOT, Plan
from app.settings import NAME


def carry_out(plan: Plan, api: HfApi) -> str:
    """Doing it twice changes nothing the second time, but for named secrets, whose values there cannot be read.
    Returns what was done, in words.

    Raises:
        HfHubHTTPError: what the Hub refuses; what was done before stays, and the same command goes on from there.
    """
    wish = plan.wish
    for repo, private in plan.new_datasets.items():
        api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
    if plan.now is None:
        api.create_repo(wish.space, repo_type="space", space_sdk="gradio", private=bool(wish.private), exist_ok=True)
    elif plan.private is not None:
        api.update_repo_settings(wish.space, repo_type="space", private=plan.private)
    for name, value in plan.secrets.items():
        api.add_space_secret(wish.space, name, value)
    for name, value in plan.variables.items():
        api.add_space_variable(wish.space, name, value)
    for name in plan.dropped:
        api.delete_space_variable(wish.space, name)
    if plan.bucket:
        api.create_bucket(plan.bucket, private=True, exist_ok=True)
        api.set_space_volumes(wish.space, [Volume(type="bucket", source=plan.bucket, mount_path="/data")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the shipped data are parquet files in a Space, and belong there
        api.create_commit(
            wish.space,
            _operations(plan, api),
            repo_type="space",
            commit_message=f"{NAME}: {len(plan.files)} files",
        )
    if plan.hardware:
        api.request_space_hardware(wish.space, plan.hardware, sleep_time=wish.sleep)
    elif plan.sleep is not None:
        api.set_space_sleep_time(wish.space, plan.sleep)
    return f"Done: {api.endpoint}/spaces/{wish.space} builds now; it takes some minutes."


def _operations(plan: Plan, api: HfApi) -> list[CommitOperationAdd | CommitOperationDelete]:
    """Not ``upload_folder``: it walks the whole checkout, a virtual environment included, to find these few files."""
    there = api.list_repo_files(plan.wish.space, repo_type="space")
    kept = {*plan.files, ".gitattributes"}  # the Hub's own, which says which files are large
    gone = [CommitOperationDelete(name, is_folder=False) for name in there if name not in kept]
    return [*gone, *(CommitOperationAdd(name, ROOT / name) for name in plan.files)]
