"""The Hub fails at every single request of a load and of a push in turn: it works out, or ends with one clear error."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from hezar_like import Model, build_model, hub_client
from hezar_like.errors import HubError
from hezar_like.hub import push
from hezar_like.preprocessors import WordPieceConfig, WordPieceTokenizer
from hezar_like.testing import HubServer

# The client asks for a list that it needs for its own statistics, once per process.
OURS = r"^(?!/api/agent)"
FAULTS: dict[str, dict[str, Any]] = {
    "429": {"status": 429, "headers": {"Retry-After": "1"}},
    "500": {"status": 500},
    "503": {"status": 503},
    "drop": {"drop": True},
    "cut": {"cut_after": 1},
    "stall": {"stall_after": 1, "delay": 3.0},
    "corrupt": {"corrupt": True},
}
FOR_GOOD = [name for name in FAULTS if name not in ("429", "500")]  # those are handled as 503 is
SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
REQUESTS_OF_LOAD = 12
SCENARIOS = {"new": 9, "existing": 8, "branch": 10, "pull request": 9}
"""Kinds of pushes, and how many requests they make."""


@pytest.fixture(autouse=True)
def short(hub: HubServer, pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    monkeypatch.setenv("HEZAR_LIKE_UPLOAD_TIMEOUT", "0.3")
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.3)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two saved models of the same shape."""
    tokenizer = WordPieceTokenizer(WordPieceConfig(vocab_size=60, show_progress=False))
    tokenizer.train_from_iterator(["a small text"] * 3)
    folders = []
    for seed, label in ((0, "old"), (1, "new")):
        torch.manual_seed(seed)
        model = build_model("bert_text_classification", vocab_size=len(tokenizer), id2label={0: label, 1: "x"}, **SIZES)
        model.preprocessor = tokenizer
        folders.append(model.save(tmp_path_factory.mktemp(label)))
    return folders


@pytest.fixture
def unhurried(short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No request is made twice because this computer is busy."""
    monkeypatch.setenv("HEZAR_LIKE_UPLOAD_TIMEOUT", "20")
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 20)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 20)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the client's own tries, which end at the first answer that does not come, there are no others."""
    monkeypatch.setattr(hub_client, "PATIENCE", 0.25)


def put(hub: HubServer, folder: Path) -> str:
    """Puts a model on the Hub in one commit."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    repository = hub.repo("ann/m") or hub.create("ann/m")
    entries = [
        (path.relative_to(folder).as_posix(), hub.entry(path.read_bytes(), large=path.suffix == ".safetensors"))
        for path in paths
    ]
    return hub.commit(repository, "refs/heads/main", "a model", entries)


@functools.cache
def load_folder(folder: Path) -> Model:
    return Model.load(folder, device="cpu")


def assert_is(model: Model, folder: Path) -> None:
    expected = load_folder(folder)
    assert model.config.to_dict() == expected.config.to_dict()
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in expected.state_dict().items())
    assert model.predict(["a small text"]) == expected.predict(["a small text"])


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 300 and "hf_" not in text, text
    return text


@pytest.mark.usefixtures("unhurried")
def test_the_requests_of_a_load(hub: HubServer, models: list[Path]) -> None:
    put(hub, models[0])
    Model.load("ann/m", device="cpu")
    asked = [(request["method"], request["path"]) for request in hub.requests(path=OURS)]
    assert len(asked) == REQUESTS_OF_LOAD, asked


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("number", range(REQUESTS_OF_LOAD))
def test_one_request_of_a_load_fails(hub: HubServer, models: list[Path], number: int, fault: str) -> None:
    commit = put(hub, models[0])
    hub.fault(OURS, skip=number, **FAULTS[fault])
    model = Model.load("ann/m", device="cpu")
    assert hub.faults[0].times == 0
    assert model.source is not None and model.source.commit == commit
    assert_is(model, models[0])


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("number", range(REQUESTS_OF_LOAD))
def test_one_request_of_a_load_of_news_fails(hub: HubServer, models: list[Path], number: int, fault: str) -> None:
    """What the cache has of the commit before is not taken for what is new."""
    put(hub, models[0])
    Model.load("ann/m", device="cpu")
    commit = put(hub, models[1])
    hub.fault(OURS, skip=number, **FAULTS[fault])
    model = Model.load("ann/m", device="cpu")
    assert model.source is not None and model.source.commit == commit
    assert_is(model, models[1])


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", FOR_GOOD)
@pytest.mark.parametrize(
    "path", ["/api/models/", "/model_config.yaml", "/model.safetensors", "/cdn/", "/tokenizer.json", "/normalizer_config"]
)
def test_requests_of_a_load_fail_for_good(hub: HubServer, models: list[Path], path: str, fault: str) -> None:
    put(hub, models[0])
    hub.fault(path, times=-1, **FAULTS[fault])
    has_body = path not in ("/model.safetensors", "/normalizer_config") or fault not in ("cut", "stall", "corrupt")
    if has_body:
        with pytest.raises(HubError) as error:
            Model.load("ann/m", device="cpu")
        assert any(hint in one_line(error) for hint in ("try again", "check the network"))
    hub.faults.clear()
    assert_is(Model.load("ann/m", device="cpu"), models[0])


class Moving(HubServer):
    """Runs a function before one request."""

    def __init__(self, number: int, change: Callable[[], object], **options: Any) -> None:
        super().__init__(**options)
        self.number, self.change = number, change

    def take_fault(self, method: str, path: str) -> Any:
        if "/api/agent" not in path:
            self.number -= 1
            if self.number == -1:
                self.change()
        return super().take_fault(method, path)


@pytest.mark.parametrize("number", range(1, REQUESTS_OF_LOAD))
def test_a_commit_in_the_middle_of_a_load(models: list[Path], number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with Moving(number, lambda: put(hub, models[1])) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", hub.token)
        put(hub, models[0])
        assert_is(Model.load("ann/m", device="cpu"), models[0])
        assert_is(Model.load("ann/m", device="cpu"), models[1])


# -- pushing --------------------------------------------------------------------------------------------------------

STALE = "model-00001-of-00002.safetensors"
BEFORE = {STALE: b"half of the weights", "model_config.yaml": b"name: old\n", "model.safetensors": b"old weights", "README.md": b"# Mine\n"}
FILES = {"model_config.yaml": b"name: bert\n", "model.safetensors": b"weights" * 1000}
TITLE = "Upload my model"


def prepare(hub: HubServer, scenario: str) -> int:
    """Makes the repository of a scenario; returns how many commits it has."""
    if scenario == "new":
        return 0
    for name, content in BEFORE.items():
        hub.add_file("ann/new", name, content)
    repository = hub.repo("ann/new")
    assert repository is not None
    return len(repository.commits)


def upload(scenario: str) -> str:
    return push(
        "ann/new",
        FILES,
        commit_message=TITLE,
        revision="dev" if scenario == "branch" else None,
        create_pr=scenario == "pull request",
        card=lambda there: "---\nlicense: mit\n---\n" if there is None else None,
        delete=lambda names: [STALE],
    )


def made(hub: HubServer) -> int:
    """How many commits with our title there are, on whatever branch."""
    repository = hub.repo("ann/new")
    return 0 if repository is None else sum(item["title"] == TITLE for item in repository.commits.values())


def assert_pushed(hub: HubServer, scenario: str, address: str) -> None:
    revision = {"branch": "dev", "pull request": "refs/pr/1"}.get(scenario, "main")
    assert made(hub) == 1
    assert {name: hub.read("ann/new", name, revision) for name in FILES} == FILES
    assert STALE not in hub.files("ann/new", revision)
    repository = hub.repo("ann/new")
    assert repository is not None
    assert address.endswith("/discussions/1" if scenario == "pull request" else repository.refs[f"refs/heads/{revision}"])


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_requests_of_a_push(hub: HubServer, scenario: str) -> None:
    prepare(hub, scenario)
    assert_pushed(hub, scenario, upload(scenario))
    assert len(hub.requests(path=OURS)) == SCENARIOS[scenario]


OF_PUSHES = FAULTS | {"answer lost": {"cut_after": 0}}


@pytest.mark.parametrize(
    ("scenario", "number", "fault"),
    [
        (scenario, number, fault)
        for scenario, count in SCENARIOS.items()
        for number in range(count)
        for fault in OF_PUSHES
    ],
)
def test_one_request_of_a_push_fails(hub: HubServer, scenario: str, number: int, fault: str) -> None:
    prepare(hub, scenario)
    hub.fault(OURS, skip=number, **OF_PUSHES[fault])
    if scenario == "pull request" and number >= SCENARIOS[scenario] - 2 and fault not in ("429", "503"):
        # A connection broke while the commit was sent. It may arrive later, and the Hub would not refuse a second one,
        # so this may end with an error.
        try:
            address = upload(scenario)
        except HubError as error:
            assert "try again" in str(error) and made(hub) == 0
            address = upload(scenario)
    else:
        address = upload(scenario)
    assert_pushed(hub, scenario, address)
    assert hub.faults[0].times == 0


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", FOR_GOOD)
@pytest.mark.parametrize("path", ["/api/models/", "/repos/create", "/validate", "/preupload", "/batch", "/commit/"])
def test_requests_of_a_push_fail_for_good(hub: HubServer, path: str, fault: str) -> None:
    hub.fault(path, times=-1, **FAULTS[fault])
    if path == "/commit/" and fault in ("cut", "stall", "corrupt"):  # the Hub does what it was asked for
        assert_pushed(hub, "new", upload("new"))
        return
    with pytest.raises(HubError) as error:
        upload("new")
    assert any(hint in one_line(error) for hint in ("try again", "check the network")), one_line(error)
    assert made(hub) == 0
    hub.faults.clear()
    assert_pushed(hub, "new", upload("new"))
