"""Where a push goes, what it refuses, and how long anybody waits."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session, constants

from hezar_like import hub_client
from hezar_like.errors import CheckpointError, HubError
from hezar_like.hub import push, resolve
from hezar_like.hub_errors import redact
from hezar_like.testing import HubServer

CONFIG = "model_config.yaml"


@pytest.fixture(autouse=True)
def endpoint(hub: HubServer, pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)


def upload(content: bytes, repo_id: str = "ann/new", **options: Any) -> str:
    return push(repo_id, {CONFIG: content}, commit_message="save", **{"token": "hf_write", **options})


def commits(hub: HubServer, title: str = "save") -> int:
    repository = hub.repo("ann/new")
    return 0 if repository is None else sum(commit["title"] == title for commit in repository.commits.values())


def test_a_branch_is_made_where_missing(hub: HubServer) -> None:
    upload(b"1")
    upload(b"2", revision="experiments/first")
    assert hub.read("ann/new", CONFIG) == b"1"
    assert hub.read("ann/new", CONFIG, "experiments/first") == b"2"
    upload(b"3", revision="experiments/first")
    assert hub.read("ann/new", CONFIG, "experiments/first") == b"3" and hub.read("ann/new", CONFIG) == b"1"


def test_a_new_repository_on_a_branch(hub: HubServer) -> None:
    upload(b"1", revision="dev", private=True)
    assert hub.files("ann/new", "dev") == {CONFIG} and hub.files("ann/new") == set()


def test_a_new_branch_of_what_is_there_already_makes_no_commit(hub: HubServer) -> None:
    upload(b"1")
    address = upload(b"1", revision="dev")
    repository = hub.repo("ann/new")
    assert repository is not None and address.endswith(repository.refs["refs/heads/dev"]) and commits(hub) == 1


def test_a_pull_request_that_is_there_takes_more(hub: HubServer) -> None:
    upload(b"1")
    assert upload(b"2", create_pr=True).endswith("/discussions/1")
    upload(b"3", revision="refs/pr/1")
    assert hub.read("ann/new", CONFIG, "refs/pr/1") == b"3" and hub.read("ann/new", CONFIG) == b"1"
    with pytest.raises(HubError, match="no such branch"):
        upload(b"3", revision="refs/pr/2")
    with pytest.raises(HubError, match="no such branch"):
        upload(b"3", revision="nowhere", create_pr=True)
    assert upload(b"4", create_pr=True).endswith("/discussions/2")


def test_anybody_may_propose(hub: HubServer) -> None:
    hub.add_file("ann/new", CONFIG, b"1")
    with pytest.raises(HubError, match="write access"):
        upload(b"2", token="hf_other")
    assert upload(b"2", token="hf_other", create_pr=True).endswith("/discussions/1")
    assert hub.read("ann/new", CONFIG, "refs/pr/1") == b"2" and hub.read("ann/new", CONFIG) == b"1"


@pytest.mark.parametrize("private", [True, False])
def test_private_means_what_it_says(hub: HubServer, private: bool) -> None:
    hub.create("ann/new", private=not private)
    with pytest.raises(HubError, match="leave out private"):
        upload(b"1", private=private)
    assert commits(hub) == 0
    upload(b"1", private=not private)
    upload(b"2")
    assert commits(hub) == 2


def test_a_name_without_owner(hub: HubServer) -> None:
    assert "/ann/mine/commit/" in upload(b"1", "mine")
    hub.clear()
    upload(b"1", "mine")
    assert not hub.requests("POST", "/commit/")


def test_nothing_changed_means_no_upload_at_all(hub: HubServer, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"w" * 1000)
    push("ann/new", {path.name: path}, commit_message="save", token="hf_write")
    hub.clear()
    push("ann/new", {path.name: path}, commit_message="save", token="hf_write")
    assert [entry["method"] for entry in hub.log] == ["GET"]
    path.write_bytes(b"v" * 1000)  # as many bytes
    push("ann/new", {path.name: path}, commit_message="save", token="hf_write")
    assert hub.read("ann/new", path.name) == b"v" * 1000


def test_what_others_push_at_the_same_time_wins(hub: HubServer) -> None:
    """Also when our own try was not heard of: theirs is not taken for ours."""
    upload(b"1")
    hub.fault("/commit/", drop=True, times=1)

    def meanwhile(names: list[str]) -> list[str]:
        hub.add_file("ann/new", CONFIG, b"theirs")
        return []

    with pytest.raises(HubError, match="somebody else changed it"):
        upload(b"2", delete=meanwhile)
    assert hub.read("ann/new", CONFIG) == b"theirs" and commits(hub) == 1


def test_an_answer_that_is_lost_and_a_hub_that_is_away_then(hub: HubServer) -> None:
    """Whether the commit arrived cannot be seen at once; the next try is refused, because it did."""
    upload(b"1")
    hub.clear()
    hub.fault("/commit/", cut_after=0)
    hub.fault("/api/models/ann/new", "GET", skip=1, status=503, times=3)
    address = upload(b"2")
    repository = hub.repo("ann/new")
    assert [fault.times for fault in hub.faults] == [0, 0] and [r["status"] for r in hub.requests("POST", "/commit/")] == [200, 412]
    assert repository is not None and address.endswith(repository.refs["refs/heads/main"]) and commits(hub) == 2


def test_names_are_checked_before_anything_is_made(hub: HubServer) -> None:
    for name in ("../x", "/etc/x", "a\\b", "x\n"):
        with pytest.raises(CheckpointError, match="inside the model folder"):
            push("ann/new", {name: b"1"}, commit_message="x", token="hf_write")
    assert not hub.log


def test_offline(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="cannot push to 'ann/new'.*unset HF_HUB_OFFLINE"):
        upload(b"1")
    assert not hub.log


# -- waiting ----------------------------------------------------------------------------------------------------------


def test_the_hub_says_how_long_to_wait(hub: HubServer, pauses: list[float]) -> None:
    hub.add_file("ann/new", CONFIG, b"1")
    hub.fault("/api/models/", status=429, headers={"Retry-After": "7"}, times=2)
    assert resolve("ann/new").get(CONFIG)
    assert pauses == [7.0, 7.0]


def test_a_time_to_wait_that_is_no_number(hub: HubServer, pauses: list[float]) -> None:
    hub.add_file("ann/new", CONFIG, b"1")
    hub.fault("/api/models/", status=429, headers={"Retry-After": "\xb2"}, times=1)
    assert resolve("ann/new").get(CONFIG)
    assert len(pauses) == 1 and 0 < pauses[0] < 1


def test_too_long_to_wait_is_an_error(hub: HubServer, pauses: list[float]) -> None:
    hub.fault("/api/models/", status=429, headers={"Retry-After": "3600"}, times=-1)
    with pytest.raises(HubError, match="HTTP 429"):
        resolve("ann/new")
    assert len(hub.requests(path="/api/models/")) == 1 and not pauses


def test_a_hub_that_is_down_is_asked_three_times(hub: HubServer, pauses: list[float]) -> None:
    hub.fault("/api/models/", status=503, times=-1)
    with pytest.raises(HubError, match="HTTP 503"):
        resolve("ann/new")
    assert len(hub.requests(path="/api/models/")) == 3
    assert len(pauses) == 2 and 0.25 <= pauses[0] <= 0.75 and 0.5 <= pauses[1] <= 1.5


def test_a_refusal_is_not_asked_again(hub: HubServer) -> None:
    with pytest.raises(HubError, match="does not exist"):
        resolve("ann/nothing")
    assert len(hub.requests(path="/api/models/")) == 1


@pytest.mark.parametrize("headers", [["ETag"], ["X-Repo-Commit"]])
def test_an_answer_that_lacks_what_it_must_say(hub: HubServer, headers: list[str]) -> None:
    hub.add_file("ann/new", CONFIG, b"1")
    hub.fault("/resolve/", times=-1, drop_headers=headers)
    with pytest.raises(HubError, match="not one that the Hub would give; check HF_ENDPOINT"):
        resolve("ann/new").get(CONFIG)


def test_a_hiccup_does_not_lead_to_an_old_commit(hub: HubServer, caplog: pytest.LogCaptureFixture) -> None:
    hub.add_file("ann/new", CONFIG, b"1")
    resolve("ann/new").get(CONFIG)
    commit = hub.add_file("ann/new", CONFIG, b"2")
    hub.fault("/api/models/", drop=True)
    with caplog.at_level(logging.WARNING, "hezar_like"):
        assert resolve("ann/new").commit == commit
    assert "cannot be reached" not in caplog.text


def test_time_limits_are_for_our_calls_only(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import get_session

    hub.add_file("ann/new", CONFIG, b"1")
    resolve("ann/new")
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    hub.fault("/api/models/", stall_after=0, delay=0.6)
    # The client itself waits for as long as it takes, here until the Hub hangs up.
    with pytest.raises(Exception, match="disconnected|closed"):
        get_session().get(f"{hub.url}/api/models/ann/new")
    assert hub_client.limits.calls == 0


@pytest.mark.parametrize("told", ["soon", "0", "-1", "nan"])
def test_a_time_limit_that_is_none(hub: HubServer, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(hub_client.UPLOAD_TIMEOUT, told)
    with pytest.raises(HubError, match=f"HEZAR_LIKE_UPLOAD_TIMEOUT is '{told}'; set it"):
        upload(b"1")


def test_nothing_moves_where_nobody_watches(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub.utils import are_progress_bars_disabled, tqdm

    module = sys.modules[tqdm.__module__]
    for place in (constants, module):
        monkeypatch.setattr(place, "HF_HUB_DISABLE_PROGRESS_BARS", None)

    def push_and_pull(letter: bytes) -> str:
        files = {f"{number}.safetensors": letter * 1000 * number for number in (1, 2)}
        push("ann/new", files, commit_message="save", token="hf_write")
        assert resolve("ann/new").get("2.safetensors").read_bytes() == files["2.safetensors"]
        return capfd.readouterr().err

    assert push_and_pull(b"v") == "" and not are_progress_bars_disabled()
    monkeypatch.setattr(hub_client, "_somebody_watches", lambda: True)
    assert "Upload 2" in push_and_pull(b"w")


def test_a_pinned_load_makes_no_connection(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.add_file("ann/new", CONFIG, b"1")
    resolve("ann/new").get(CONFIG)
    close_session()
    monkeypatch.setattr("huggingface_hub.utils._http._GLOBAL_CLIENT_FACTORY", lambda: pytest.fail("connected"))
    assert resolve("ann/new", revision=commit).get(CONFIG)
    assert resolve("ann/new", local_files_only=True).get(CONFIG)


# -- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "Bearer sec ret".replace(" ", ""), "Authorization: Bearer secret.x-y", "hf_secret", "https://ann:secret@hub.org/x",
        "https://cdn.org/x?X-Amz-Signature=secret&a=b", "http://x/y?token=secret",
    ],
)  # fmt: skip
def test_secrets_are_taken_out(text: str) -> None:
    text = text.replace("Bearersecret", "Bearer secret")
    assert "secret" not in redact(f"before {text} after") and redact(f"before {text} after").startswith("before ")


@pytest.mark.parametrize("fault", [{"status": 401}, {"status": 403}, {"status": 500}, {"status": 418}, {"drop": True}])
@pytest.mark.parametrize("path", ["/api/models/", "/create", "/preupload", "/commit/"])
def test_no_token_in_errors_logs_and_requests(
    hub: HubServer, path: str, fault: dict[str, Any], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    import traceback

    hub.fault(path, times=-1, headers={"X-Error-Message": "no, Bearer hf_write"}, **fault)
    with caplog.at_level(logging.DEBUG), pytest.raises(HubError) as error:
        upload(b"1")
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("hezar_like", "huggingface"))]
    shown = "".join([*traceback.format_exception(error.value), repr(error.value), *ours])
    assert "hf_write" not in shown.replace('token="hf_write"', "").replace('"token": "hf_write"', "")
    assert "hf_write" not in "".join(capfd.readouterr())
    assert not any("hf_write" in entry["path"] + entry["query"] for entry in hub.log)
    assert not any("authorization" in entry["headers"] for entry in hub.log if entry["cdn"])
