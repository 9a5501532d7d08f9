"""Rows 17, 18 and 57: repositories whose trees are traps, and what is pushed from a folder full of secrets."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tiny_models import tiny_model

from hezar_like import Model
from hezar_like.cli import main
from hezar_like.errors import HezarLikeError
from hezar_like.hub import resolve
from hezar_like.testing import HubServer

pytestmark = [  # the client leaves files and connections to the garbage collector, which tells of them
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
SECRETS = {".env": "TOKEN=hf_secret", "notes.txt": "mine", ".git/config": "[user]", "optimizer.pt": "x" * 1000}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_model("bert_text_classification", num_labels=3, num_hidden_layers=1).save(tmp_path / "model")


@pytest.fixture
def repository(hub: HubServer, folder: Path) -> str:
    for path in folder.rglob("*"):
        if path.is_file():
            hub.add_file("evil/model", path.relative_to(folder).as_posix(), path.read_bytes())
    return "evil/model"


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil-absolute", "..\\evil", "a/../../../evil", "C:\\evil", "a\0b"])
def test_row_17_names_that_leave_the_folder(name: str, hub: HubServer, repository: str, tmp_path: Path) -> None:
    hub.add_file(repository, name, b"evil")
    around = set(tmp_path.iterdir())
    assert len(Model.load(repository, device="cpu").predict("the cat")) == 1  # nobody asks for it
    with pytest.raises(HezarLikeError, match="inside the model folder"):
        resolve(repository).find(name)
    code = main(["pull", repository, str(tmp_path / "pulled")])
    assert code in (0, 2)
    new = set(tmp_path.iterdir()) - around - {tmp_path / "pulled", tmp_path / "hf_home"}
    assert new == set() and not Path("/tmp/evil-absolute").exists()
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name and "hf_home" not in path.parts]


def test_row_18_a_hundred_thousand_files(hub: HubServer, repository: str) -> None:
    hub.add_file(repository, "junk.bin", b"x")
    entries = hub.tree(repository)
    entries.update({f"more/{number}.bin": entries["junk.bin"] for number in range(100_000)})
    assert len(hub.files(repository)) > 100_000
    asked, start = len(hub.log), time.process_time()
    assert len(Model.load(repository, device="cpu").predict("the cat")) == 1
    assert time.process_time() - start < 5
    requests = [entry["path"] for entry in hub.log[asked:]]
    assert len(requests) < 40 and not any("junk" in path or "more" in path or "/tree/" in path for path in requests)


def test_row_57_only_the_models_own_files_are_pushed(hub: HubServer, folder: Path, tmp_path: Path) -> None:
    for name, text in SECRETS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (tmp_path / "id_rsa").write_text("a private key")
    (folder / "key").symlink_to(tmp_path / "id_rsa")
    (folder / "preprocessor" / "key.json").symlink_to(tmp_path / "id_rsa")
    model = Model.load(folder, device="cpu")
    model.push_to_hub("tester/model")
    pushed = hub.files("tester/model")
    own = {"model_config.yaml", "model.safetensors", "preprocessor/tokenizer.json", "preprocessor/tokenizer_config.yaml"}
    assert pushed - {".gitattributes"} == {*own, "README.md"}
    assert not any(b"private key" in hub.read("tester/model", name) for name in pushed)
