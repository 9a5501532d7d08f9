"""hezar_like.hub through the real client against a local Hub."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants

from hezar_like import ModelConfig
from hezar_like.errors import CheckpointError, HubError
from hezar_like.hub import Source, push, resolve

CONFIG = "model_config.yaml"


@pytest.fixture(autouse=True)
def endpoint(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)


@pytest.fixture
def commit(hub):
    hub.add_file("ann/m", CONFIG, b"name: bert\n")
    return hub.add_file("ann/m", "model.safetensors", b"weights")


CARD = "---\nlicense: mit\n---\n# {}\n"


def card(title: str):
    return lambda there: CARD.format(title) if there is None else None


def message(error) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 400, text
    return text


# ---------------------------------------------------------------- names


def test_a_folder_is_a_folder_and_costs_no_request(hub, tmp_path):
    (tmp_path / CONFIG).write_text("x")
    source = resolve(str(tmp_path))
    assert source.folder == tmp_path and source.repo_id is None and str(source) == f"folder {str(tmp_path)!r}"
    assert source.get(CONFIG) == tmp_path / CONFIG and source.find("other.yaml") is None
    with pytest.raises(CheckpointError, match="folder .* has no file 'other.yaml'"):
        source.get("other.yaml")
    with pytest.raises(CheckpointError, match="inside the model folder"):
        source.find("../secret")
    assert not hub.log


def test_a_file_is_not_a_folder(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_text("x")
    with pytest.raises(HubError, match="is a file; give its folder"):
        resolve(str(path))


@pytest.mark.parametrize(
    "name", ["a/b/c", "../x", "./x", "~/no-such-folder", "/no/such", "org/name/", Path("org/name")]
)
def test_what_looks_like_a_path_is_not_asked_for_on_the_hub(hub, name):
    with pytest.raises(HubError) as error:
        resolve(name)
    assert "does not exist" in message(error) and "folder" in message(error) and not hub.log


@pytest.mark.parametrize("name", ["a b", "-x/y", "x--y", "x..y", "org/n.git", "x" * 97, "سلام/x", "x\0y"])
def test_what_is_no_repository_id_is_not_asked_for(hub, name):
    with pytest.raises(HubError) as error:
        resolve(name)
    assert "neither a folder" in message(error) and not hub.log


@pytest.mark.parametrize("name", ["", " "])
def test_empty_name(name):
    with pytest.raises(HubError, match="name is empty"):
        resolve(name)


def test_near_folder_is_suggested(tmp_path):
    (tmp_path / "my-model").mkdir()
    with pytest.raises(HubError, match="Did you mean 'my-model'"):
        resolve(tmp_path / "my-modle")


# ---------------------------------------------------------------- pull


def test_every_file_comes_from_the_commit_that_was_resolved(hub, commit):
    source = resolve("ann/m")
    hub.add_file("ann/m", CONFIG, b"name: gpt2\n")
    assert source.commit == commit and str(source) == f"ann/m@{commit[:7]}"
    assert source.get(CONFIG).read_text() == "name: bert\n"
    assert not hub.requests(path="/tree/")
    assert all(entry["headers"]["user-agent"].startswith("hezar_like/") for entry in hub.log)
    assert resolve("ann/m").get(CONFIG).read_text() == "name: gpt2\n"


def test_pinned_and_cached_makes_no_request(hub, commit):
    source = resolve("ann/m", revision=commit)
    assert source.get(CONFIG) and source.find("nope.yaml") is None
    hub.clear()
    again = resolve("ann/m", revision=commit)
    assert again.get(CONFIG) == source.get(CONFIG) and again.find("nope.yaml") is None
    assert not hub.log


def test_missing_file(commit):
    with pytest.raises(CheckpointError, match=f"ann/m@{commit[:7]} has no file 'nope.yaml'"):
        resolve("ann/m").get("nope.yaml")


def test_offline(hub, commit, monkeypatch):
    online = resolve("ann/m")
    path = online.get(CONFIG)
    hub.clear()
    assert resolve("ann/m", local_files_only=True).get(CONFIG) == path
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    source = resolve("ann/m")
    assert source.get(CONFIG) == path and source.commit == commit and "cache only" in str(source)
    with pytest.raises(HubError) as error:
        source.get("model.safetensors")
    assert "not in the cache" in message(error)
    with pytest.raises(HubError) as error:
        resolve("ann/other")
    assert "not in the cache" in message(error) and "offline" in message(error)
    assert not hub.log


def test_offline_by_environment(hub, commit, tmp_path, monkeypatch):
    resolve("ann/m").get(CONFIG)
    hub.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code = f"from hezar_like.hub import resolve; print(resolve('ann/m').get({CONFIG!r}).read_text())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert run.stdout.strip() == "name: bert" and not run.stderr and not hub.log


def test_another_cache(hub, commit, tmp_path):
    place = tmp_path / "elsewhere"
    path = resolve("ann/m", cache_dir=place).get(CONFIG)
    assert path.is_relative_to(place) and not Path(constants.HF_HUB_CACHE).exists()
    hub.clear()
    assert resolve("ann/m", cache_dir=str(place), revision=commit).get(CONFIG) == path
    assert ModelConfig.load("ann/m", cache_dir=place, revision=commit).name == "bert"
    assert not hub.log


def test_another_home_by_environment(commit, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "elsewhere"))
    code = f"from hezar_like.hub import resolve; print(resolve('ann/m').get({CONFIG!r}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert Path(run.stdout.strip()).is_relative_to(tmp_path / "elsewhere" / "hub"), run.stderr


def test_a_dead_hub_falls_back_to_the_cache_with_one_warning(pauses, hub, commit, caplog, capfd):
    path = resolve("ann/m").get(CONFIG)
    hub.fault("/", status=503, times=-1)
    with caplog.at_level(logging.WARNING, "hezar_like"):
        source = resolve("ann/m")
    assert source.commit == commit and source.get(CONFIG) == path and source.find("other.json") is None
    assert len(caplog.records) == 1 and "cannot be reached" in caplog.text
    assert "Could not reach" not in capfd.readouterr().err


def test_a_dead_hub_and_nothing_cached(pauses, hub, commit):
    hub.fault("/", status=503, times=-1)
    with pytest.raises(HubError) as error:
        resolve("ann/m")
    assert "HTTP 503" in message(error)


def test_no_hub_at_all(pauses, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError) as error:
        resolve("ann/m")
    assert "cannot be reached" in message(error) and "HF_ENDPOINT" in message(error)


def test_the_ways_a_repository_says_no(hub, commit):
    repo = hub.repo("ann/m")
    seen = {}

    def refused(kind, **options):
        with pytest.raises(HubError) as error:
            resolve("ann/m", **options).get(CONFIG)
        seen[kind] = message(error)

    refused("revision", revision="v9")
    repo.private = True
    refused("private")
    refused("other's token", token="hf_other")
    refused("wrong token", token="hf_secretsecret")
    assert resolve("ann/m", token="hf_read").get(CONFIG)
    repo.private, repo.gated = False, "manual"
    commit = hub.add_file("ann/m", CONFIG, b"name: t5\n")
    refused("gated", token="hf_other", revision=commit)
    repo.disabled = True
    refused("disabled", revision="main")
    assert "no such branch" in seen["revision"]
    assert "private" in seen["private"] and seen["private"] == seen["other's token"]
    assert "does not know this token" in seen["wrong token"]
    assert "gated" in seen["gated"] and "disabled" in seen["disabled"]
    assert not any("secret" in text for text in seen.values())


def test_tokens_stay_out_of_messages_and_pickles(hub, commit):
    with pytest.raises(HubError) as error:
        resolve("ann/m", token="hf_secret\n")
    assert "secret" not in message(error) and error.value.__cause__ is None
    source = resolve("ann/m", token="hf_read")
    assert "hf_read" not in repr(source) and b"hf_read" not in pickle.dumps(source)
    assert pickle.loads(pickle.dumps(source)) == source


def test_a_cache_that_cannot_be_written(commit):
    blocked = Path(constants.HF_HUB_CACHE)
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file stands in the way")
    with pytest.raises(HubError) as error:
        resolve("ann/m").get(CONFIG)
    assert "HF_HOME" in message(error)


# ---------------------------------------------------------------- push


def files(hub, repo="ann/new", revision="main"):
    return set(HfApi(endpoint=hub.url, token="hf_write").list_repo_files(repo, revision=revision)) - {".gitattributes"}


def upload(content, **options):
    return push("ann/new", content, commit_message="save", token="hf_write", **options)


def test_push_is_one_commit_of_exactly_these_files(hub, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"w" * 1000)
    (tmp_path / ".env").write_text("SECRET=1")
    content = {"model.safetensors": tmp_path / "model.safetensors", CONFIG: b"name: bert\n"}
    address = upload(content, private=True, card=lambda there: "---\nlicense: mit\n---\n# New\n")
    repo = hub.repo("ann/new")
    assert repo.private and len(hub.requests("POST", "/commit/")) == 1
    assert address.endswith(repo.refs["refs/heads/main"])
    assert files(hub) == {"model.safetensors", CONFIG, "README.md"}
    assert resolve("ann/new", token="hf_read").get("model.safetensors").read_bytes() == b"w" * 1000


def test_pushing_again_keeps_the_card_and_makes_no_commit(hub):
    upload({CONFIG: b"1"}, card=card("first"))
    hub.clear()
    upload({CONFIG: b"1"}, card=card("second"))
    assert not hub.requests("POST", "/commit/")
    upload({CONFIG: b"2"}, card=card("second"))
    assert resolve("ann/new").get("README.md").read_text() == CARD.format("first")


def test_stale_weights_go_in_the_same_commit(hub):
    upload(
        {
            "model-1.safetensors": b"1",
            "model-2.safetensors": b"2",
            "index.json": b"{}",
            "keep.txt": b"k",
            "model.safetensors": b"0",
        }
    )
    hub.clear()
    shown = []

    def delete(names):
        shown.extend(names)
        return ["model-1.safetensors", "model-2.safetensors", "index.json", "model.safetensors", "never-there"]

    upload({"model.safetensors": b"3"}, delete=delete)
    assert "keep.txt" in shown and files(hub) == {"model.safetensors", "keep.txt"}
    assert len(hub.requests("POST", "/commit/")) == 1


def test_pull_request(hub):
    upload({CONFIG: b"1"})
    assert "/discussions/1" in upload({CONFIG: b"2"}, create_pr=True)
    assert resolve("ann/new").get(CONFIG).read_text() == "1"
    assert resolve("ann/new", revision="refs/pr/1").get(CONFIG).read_text() == "2"


def test_a_change_in_between_is_not_overwritten(hub):
    upload({CONFIG: b"1"})

    def delete(names):
        hub.add_file("ann/new", CONFIG, b"somebody else")
        return []

    with pytest.raises(HubError) as error:
        upload({CONFIG: b"2"}, delete=delete)
    assert "somebody else changed it" in message(error)
    assert resolve("ann/new").get(CONFIG).read_text() == "somebody else"


def test_a_failed_commit_changes_nothing(pauses, hub):
    upload({CONFIG: b"1"})
    before = dict(hub.repo("ann/new").refs)
    hub.fault("/commit/", status=500, times=-1)
    with pytest.raises(HubError, match="HTTP 500"):
        upload({CONFIG: b"2"})
    assert hub.repo("ann/new").refs == before


@pytest.mark.parametrize("token", ["hf_read", "hf_other", "hf_wrong", False])
def test_push_needs_a_token_that_may_write(hub, commit, token):
    with pytest.raises(HubError) as error:
        push("ann/m", {CONFIG: b"2"}, commit_message="x", token=token)
    assert "token" in message(error) and resolve("ann/m").commit == commit


def test_push_refuses_bad_names_and_files(hub, tmp_path):
    with pytest.raises(CheckpointError, match="inside the model folder"):
        upload({"../x": b"1"})
    with pytest.raises(HubError) as error:
        upload({"x": tmp_path / "no-such-file"})
    assert "no-such-file" in message(error)
    with pytest.raises(HubError, match="Hub id"):
        push("a/b/c", {}, commit_message="x")


def test_importing_needs_no_client():
    code = "import sys, hezar_like.hub, hezar_like.files; print({'torch', 'huggingface_hub'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert run.stdout.strip() == "set()", run.stderr


def test_a_source_can_be_made_of_a_folder(tmp_path):
    assert Source("x", folder=tmp_path).find("nothing") is None
