"""The real huggingface_hub client against hezar_like.testing: push, pull, pin, permissions and broken networks."""

import json
import os
import subprocess
import sys
import time
import urllib.request

import httpx2
import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelCard,
    ModelCardData,
    constants,
    errors,
    hf_hub_download,
    snapshot_download,
)

from hezar_like.testing import hub_server

W, R, OTHER = "hf_write", "hf_read", "hf_other"
BIG = bytes(range(256)) * 45_000  # 11.5 MB: over the 10 MB line, so LFS by size
WEIGHTS = os.urandom(300_000)


@pytest.fixture
def api(hub):
    return HfApi(endpoint=hub.url, token=W, library_name="hezar_like", library_version="0.1.0")


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "model"
    (root / "preprocessor").mkdir(parents=True)
    (root / "model_config.yaml").write_text("name: bert\nhidden_size: 8\n")
    (root / "README.md").write_text("---\nlibrary_name: hezar_like\ntags:\n- hezar_like\nlicense: mit\n---\n# hi\n")
    (root / "preprocessor" / "tokenizer.json").write_text('{"سلام": 0}', encoding="utf-8")
    (root / "model.safetensors").write_bytes(WEIGHTS)
    (root / "big.dat").write_bytes(BIG)
    return root


@pytest.fixture
def pushed(hub, api, folder):
    rid = api.create_repo("ann/m").repo_id
    info = api.upload_folder(repo_id=rid, folder_path=folder, commit_message="first")
    hub.clear()
    return rid, info


def get(hub, tmp_path, filename, token=W, rid="ann/m", **kw):
    return hf_hub_download(rid, filename, endpoint=hub.url, token=token, cache_dir=tmp_path / "cache", **kw)


# ---------------------------------------------------------------- push


def test_whoami_and_wrong_token(hub, api):
    assert api.whoami()["name"] == "ann"
    with pytest.raises(errors.HfHubHTTPError, match="Invalid user token"):
        HfApi(endpoint=hub.url, token="hf_nope").whoami()


def test_create_repo(hub, api):
    url = api.create_repo("acme/m", private=True)
    assert url.repo_id == "acme/m" and url.endpoint == hub.url and api.model_info("acme/m").private
    assert api.create_repo("acme/m", exist_ok=True).repo_id == "acme/m"
    with pytest.raises(errors.HfHubHTTPError, match="409"):
        api.create_repo("acme/m")
    with pytest.raises(errors.HfHubHTTPError, match="403"):
        api.create_repo("someone-else/m")
    assert api.create_repo("short").repo_id == "ann/short"  # namespace filled in from the token
    assert api.repo_exists("ann/short") and not api.repo_exists("ann/none")


def test_upload_folder_small_and_lfs(hub, api, folder):
    api.create_repo("ann/m")
    info = api.upload_folder(repo_id="ann/m", folder_path=folder, commit_message="first", commit_description="why")
    assert info.oid == api.model_info("ann/m").sha and len(info.oid) == 40
    rows = {f.path: f for f in api.list_repo_tree("ann/m", recursive=True)}
    assert rows["big.dat"].lfs.size == len(BIG) and rows["model.safetensors"].lfs is not None
    assert rows["model_config.yaml"].lfs is None and "preprocessor" in rows
    assert len(hub.requests("PUT", "lfs-upload")) == 2 and len(hub.requests("POST", "objects/verify")) == 2
    assert all("authorization" not in e["headers"] for e in hub.requests("PUT", "lfs-upload"))
    info = api.model_info("ann/m", files_metadata=True)
    sizes = {s.rfilename: s.size for s in info.siblings}
    assert sizes["big.dat"] == len(BIG) and info.library_name == "hezar_like" and "license:mit" in info.tags
    first, *_ = api.list_repo_commits("ann/m")
    assert (first.title, first.message) == ("first", "why")
    assert {p.path for p in api.get_paths_info("ann/m", ["big.dat", "preprocessor", "nope"])} == {
        "big.dat",
        "preprocessor",
    }


def test_unchanged_push_makes_no_commit(hub, api, folder, pushed):
    before = api.model_info("ann/m").sha
    assert api.upload_folder(repo_id="ann/m", folder_path=folder).oid == before
    assert not hub.requests("POST", "/commit/") and not hub.requests("PUT")


def test_same_bytes_are_not_uploaded_twice(hub, api, folder, pushed):
    api.create_repo("ann/copy")
    api.upload_folder(repo_id="ann/copy", folder_path=folder)
    assert not hub.requests("PUT", "lfs-upload")


def test_delete_and_parent_commit(hub, api, pushed):
    rid, info = pushed
    new = api.create_commit(
        rid,
        [CommitOperationDelete("preprocessor/"), CommitOperationAdd("a.txt", b"a")],
        commit_message="swap",
        parent_commit=info.oid,
    )
    files = api.list_repo_files(rid)
    assert "a.txt" in files and "preprocessor/tokenizer.json" not in files and new.oid != info.oid
    with pytest.raises(errors.HfHubHTTPError, match="412"):
        api.upload_file(repo_id=rid, path_or_fileobj=b"b", path_in_repo="b.txt", parent_commit=info.oid)
    with pytest.raises(errors.EntryNotFoundError):
        api.delete_file("nope.txt", rid)
    api.delete_repo(rid)
    with pytest.raises(errors.RepositoryNotFoundError):
        api.model_info(rid)
    api.delete_repo(rid, missing_ok=True)


def test_model_card(hub, api, pushed, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)  # ModelCard takes no endpoint
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", hub.url)
    data = ModelCardData(
        language="fa",
        license="mit",
        library_name="hezar_like",
        pipeline_tag="fill-mask",
        tags=["hezar_like"],
        base_model="google-bert/bert-base-uncased",
    )
    ModelCard(f"---\n{data.to_yaml()}\n---\n# card\n").push_to_hub("ann/m", token=W)
    info = api.model_info("ann/m")
    assert info.card_data.base_model == "google-bert/bert-base-uncased" and info.pipeline_tag == "fill-mask"
    assert [m.id for m in api.list_models(author="ann", filter="hezar_like")] == ["ann/m"]
    with pytest.raises(ValueError, match="pipeline_tag"):
        ModelCard("---\npipeline_tag: [1]\n---\nx").push_to_hub("ann/m", token=W)
    with pytest.raises(ValueError, match="Invalid metadata"):
        api.upload_file(repo_id="ann/m", path_or_fileobj=b"---\nlibrary_name: [1]\n---\n", path_in_repo="README.md")


def test_pull_request(hub, api, pushed):
    rid, info = pushed
    pr = api.upload_file(repo_id=rid, path_or_fileobj=b"x", path_in_repo="x.txt", create_pr=True)
    assert pr.pr_revision == "refs/pr/1" and "x.txt" not in api.list_repo_files(rid)
    assert "x.txt" in api.list_repo_files(rid, revision="refs/pr/1")


# ---------------------------------------------------------------- pull


def test_download_cache_and_pin(hub, api, pushed, tmp_path):
    rid, info = pushed
    path = get(hub, tmp_path, "model_config.yaml")
    assert open(path).read() == "name: bert\nhidden_size: 8\n"
    old = get(hub, tmp_path, "model_config.yaml", revision=info.oid)
    api.upload_file(repo_id=rid, path_or_fileobj=b"name: gpt2\n", path_in_repo="model_config.yaml")
    assert open(get(hub, tmp_path, "model_config.yaml")).read() == "name: gpt2\n"
    hub.clear()
    assert open(get(hub, tmp_path, "model_config.yaml", revision=info.oid)).read() == open(old).read()
    assert not hub.log  # a pinned commit that is cached costs no request
    assert open(get(hub, tmp_path, "model_config.yaml", revision=info.oid[:7])).read() == open(old).read()
    with pytest.raises(errors.RevisionNotFoundError):
        get(hub, tmp_path, "model_config.yaml", revision="v9")
    with pytest.raises(errors.EntryNotFoundError):
        get(hub, tmp_path, "nope.yaml")


def test_branch_tag_refs(hub, api, pushed, tmp_path):
    rid, info = pushed
    api.create_tag(rid, tag="v1.0")
    api.create_branch(rid, branch="dev/x")
    api.upload_file(repo_id=rid, path_or_fileobj=b"2", path_in_repo="two.txt", revision="dev/x")
    assert "two.txt" in api.list_repo_files(rid, revision="dev/x") and "two.txt" not in api.list_repo_files(rid)
    refs = api.list_repo_refs(rid)
    assert {b.name for b in refs.branches} == {"main", "dev/x"} and refs.tags[0].target_commit == info.oid
    assert api.resolve_revision(rid, revision="v1.0", cache_dir=tmp_path).resolved == info.oid
    with pytest.raises(errors.HfHubHTTPError, match="409"):
        api.create_branch(rid, branch="dev/x")
    api.delete_branch(rid, branch="dev/x")
    api.delete_tag(rid, tag="v1.0")
    assert len(api.list_repo_refs(rid).branches) == 1


def test_snapshot_download_and_cdn_gets_no_token(hub, pushed, tmp_path):
    got = snapshot_download(
        "ann/m",
        endpoint=hub.url,
        token=W,
        cache_dir=tmp_path / "c",
        ignore_patterns=["big.dat"],
        library_name="hezar_like",
        library_version="0.1.0",
    )
    assert open(os.path.join(got, "model.safetensors"), "rb").read() == WEIGHTS
    assert open(os.path.join(got, "preprocessor/tokenizer.json"), encoding="utf-8").read() == '{"سلام": 0}'
    assert not os.path.exists(os.path.join(got, "big.dat"))
    cdn = [e for e in hub.log if e["cdn"]]
    assert cdn and not any("authorization" in e["headers"] for e in cdn)
    agents = {e["headers"]["user-agent"] for e in hub.log}
    assert all(a.startswith("hezar_like/0.1.0; hf_hub/2.") for a in agents)
    assert all(e["headers"].get("x-hf-download-counter") == "1" for e in hub.log)
    assert hub.repo("ann/m").downloads >= 1


def test_tree_pages(hub):
    hub.page_size = 3
    for i in range(10):
        hub.add_file("ann/many", f"d/f{i}.txt", b"x")
    assert len(HfApi(endpoint=hub.url, token=W).list_repo_files("ann/many")) == 11


def test_offline(hub, pushed, tmp_path, monkeypatch):
    get(hub, tmp_path, "model_config.yaml")
    hub.clear()
    assert get(hub, tmp_path, "model_config.yaml", local_files_only=True)
    with pytest.raises(errors.LocalEntryNotFoundError):
        get(hub, tmp_path, "model.safetensors", local_files_only=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert get(hub, tmp_path, "model_config.yaml")
    assert not hub.log


# ---------------------------------------------------------------- permissions


def test_private_gated_disabled(hub, api, pushed, tmp_path):
    api.update_repo_settings("ann/m", private=True)
    for token in (OTHER, False):  # another user; nobody
        with pytest.raises(errors.RepositoryNotFoundError):
            get(hub, tmp_path, "model_config.yaml", token=token)
    with pytest.raises(errors.HfHubHTTPError, match="401"):  # a token that does not exist
        get(hub, tmp_path, "model_config.yaml", token="hf_wrong")
    assert get(hub, tmp_path, "model_config.yaml", token=R)
    api.update_repo_settings("ann/m", private=False, gated="manual")
    with pytest.raises(errors.GatedRepoError):
        get(hub, tmp_path, "README.md", token=OTHER)
    hub.repo("ann/m").granted.add("bob")
    assert get(hub, tmp_path, "README.md", token=OTHER)
    hub.repo("ann/m").disabled = True
    with pytest.raises(errors.DisabledRepoError):
        api.model_info("ann/m")


def test_write_needs_a_write_token(hub, pushed):
    for token in (R, OTHER):
        with pytest.raises(errors.HfHubHTTPError, match="403"):
            HfApi(endpoint=hub.url, token=token).upload_file(repo_id="ann/m", path_or_fileobj=b"x", path_in_repo="x")
    with pytest.raises(errors.RepositoryNotFoundError):
        HfApi(endpoint=hub.url, token=False).upload_file(repo_id="ann/m", path_or_fileobj=b"x", path_in_repo="x")


# ---------------------------------------------------------------- broken networks


def test_resume_after_a_cut(pauses, hub, pushed, tmp_path):
    """The client resumes inside one process, from the last whole 10 MB chunk (its DOWNLOAD_CHUNK_SIZE)."""
    hub.fault("/cdn/", method="GET", cut_after=11_000_000)
    assert open(get(hub, tmp_path, "big.dat"), "rb").read() == BIG
    first, second = hub.requests("GET", "/cdn/")
    assert second["headers"]["range"] == f"bytes={constants.DOWNLOAD_CHUNK_SIZE}-" and second["status"] == 206
    hub.clear()
    hub.fault("/cdn/", method="GET", cut_after=100_000)  # less than a chunk: starts again from 0
    assert open(get(hub, tmp_path, "model.safetensors"), "rb").read() == WEIGHTS
    assert "range" not in hub.requests("GET", "/cdn/")[1]["headers"]


def test_cut_for_good_leaves_no_file(hub, pushed, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda s: None)
    hub.fault("/cdn/", method="GET", cut_after=0, times=-1)
    with pytest.raises((OSError, errors.HfHubHTTPError, httpx2.HTTPError)):
        get(hub, tmp_path, "model.safetensors")
    left = [f for _, _, files in os.walk(tmp_path / "cache" / "models--ann--m") for f in files]
    assert not [f for f in left if f.endswith((".incomplete", ".safetensors"))]
    hub.faults.clear()
    assert open(get(hub, tmp_path, "model.safetensors"), "rb").read() == WEIGHTS


def test_503_then_well(hub, pushed, tmp_path, monkeypatch):
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    hub.fault("/resolve/main/model_config.yaml", method="HEAD", status=503, times=2)
    assert get(hub, tmp_path, "model_config.yaml")
    assert slept  # the client backed off


def test_503_falls_back_to_the_cache(hub, pushed, tmp_path):
    path = get(hub, tmp_path, "model_config.yaml")
    hub.fault("/resolve/", status=503, times=-1)
    assert get(hub, tmp_path, "model_config.yaml") == path


def test_429_waits_as_told(hub, pushed, tmp_path, monkeypatch):
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    hub.fault("/resolve/main/README.md", method="GET", status=429, headers={"Retry-After": "3"})
    assert get(hub, tmp_path, "README.md")
    assert 4.0 in slept


def test_slow_and_stalled(pauses, hub, pushed, tmp_path):
    hub.fault("/resolve/main/README.md", delay=0.3)
    start = time.time()
    get(hub, tmp_path, "README.md")
    assert time.time() - start >= 0.3
    hub.fault("/cdn/", method="GET", stall_after=1000, delay=30)  # longer than HF_HUB_DOWNLOAD_TIMEOUT
    assert open(get(hub, tmp_path, "model.safetensors"), "rb").read() == WEIGHTS


def test_no_etag(hub, pushed, tmp_path):
    hub.fault("/resolve/main/README.md", times=-1, drop_headers=("ETag",))
    with pytest.raises(errors.LocalEntryNotFoundError, match="ETag"):
        get(hub, tmp_path, "README.md")


def test_corrupt_body_is_not_noticed_by_the_client(hub, pushed, tmp_path):
    """Same size, other bytes: hf_hub_download keeps them. A library must check what it loads."""
    hub.fault("/cdn/", method="GET", corrupt=True)
    path = get(hub, tmp_path, "model.safetensors")
    assert open(path, "rb").read() != WEIGHTS
    result = HfApi(endpoint=hub.url, token=W).verify_repo_checksums("ann/m", cache_dir=tmp_path / "cache")
    assert [m["path"] for m in result.mismatches] == ["model.safetensors"]


def test_upload_retries(pauses, hub, api, folder, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda s: None)
    api.create_repo("ann/m")
    hub.fault("/lfs-upload/", status=503, times=2)
    hub.fault("/preupload/", status=500)
    api.upload_folder(repo_id="ann/m", folder_path=folder)
    assert "model.safetensors" in api.list_repo_files("ann/m")


def test_failed_commit_keeps_the_old_state(hub, api, pushed):
    before = api.model_info("ann/m").sha
    hub.fault("/commit/", status=500, times=-1)
    with pytest.raises(errors.HfHubHTTPError):
        api.upload_file(repo_id="ann/m", path_or_fileobj=b"x" * 10, path_in_repo="x.bin")
    assert api.model_info("ann/m").sha == before


def test_dropped_connection(pauses, hub, pushed, tmp_path):
    hub.fault("/resolve/main/README.md", method="GET", drop=True)
    assert get(hub, tmp_path, "README.md")


# ---------------------------------------------------------------- other processes


def test_cli_process_and_environment(tmp_path, folder):
    """The way a user's program meets it: HF_ENDPOINT and HF_TOKEN in the environment, the server in another process."""
    server = subprocess.Popen([sys.executable, "-m", hub_server.__name__, "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        env = {
            **os.environ,
            **dict(p.split("=") for p in server.stdout.readline().split()),
            "HF_HOME": str(tmp_path / "h"),
        }
        code = (
            "import sys; from huggingface_hub import *\n"
            "create_repo('acme/m', private=True); upload_folder(repo_id='acme/m', folder_path=sys.argv[1])\n"
            "print(open(hf_hub_download('acme/m', 'model_config.yaml')).read())\n"
            "print(ModelCard.load('acme/m').data.license)"
        )
        out = subprocess.run(
            [sys.executable, "-c", code, str(folder)], env=env, capture_output=True, text=True, timeout=120
        )
        assert out.returncode == 0, out.stderr
        assert "hidden_size: 8" in out.stdout and "mit" in out.stdout
        with urllib.request.urlopen(env["HF_ENDPOINT"] + "/_admin/log") as answer:
            log = json.load(answer)
        assert any(e["path"] == "/api/repos/create" for e in log)
    finally:
        server.terminate()
        server.wait(10)
        server.stdout.close()
