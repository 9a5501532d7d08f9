"""What the Hub for tests holds: repositories, commits and files. Contents lie in files, the rest in memory."""

from __future__ import annotations

import datetime
import fnmatch
import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Entry", "HubStore", "RefusedRequest", "Repository", "git_hash", "is_large"]

LARGE_NAMES = (
    "*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.onnx", "*.model", "*.msgpack", "*.np[yz]",
    "*.parquet", "*.zip", "*.gz", "*.pkl",
)  # fmt: skip
LARGE_SIZE = 10 * 1024 * 1024
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"
FRONT_MATTER = re.compile(r"\s*---[ \t]*\r?\n(.*?)\r?\n?---[ \t]*(\r?\n|$)", re.S)


class RefusedRequest(Exception):
    """Answered with a status and the Hub's headers for errors."""

    def __init__(self, status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}


class Entry(NamedTuple):
    """One file of one commit.

    Attributes:
        sha256: The hash of its content, which is also its name on the disk.
        git_hash: What git calls it; for a large file, what git calls its pointer.
        size: Bytes.
        large: Whether it is stored as a large file (LFS).
    """

    sha256: str
    git_hash: str
    size: int
    large: bool


@dataclass
class Repository:
    """One repository.

    Attributes:
        id: "user/name".
        type: "model", "dataset" or "space".
        private: Whether only its owner sees it.
        gated: False, "auto" or "manual"; `granted` names who may read then.
        granted: Names of users.
        disabled: Whether the Hub refuses all access.
        downloads: How often a file was asked for that the Hub counts.
        refs: Ids of commits by "refs/heads/main", "refs/tags/x", "refs/pr/1".
        commits: By id: parent, title, message, date, author, tree.
    """

    id: str
    type: str = "model"
    private: bool = False
    gated: bool | str = False
    granted: set[str] = field(default_factory=set)
    disabled: bool = False
    downloads: int = 0
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, Any]] = field(default_factory=dict)


class HubStore:
    """Repositories, and what can be done to them without a client."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="hub-for-tests-"))
        self.lock = threading.RLock()
        self.repositories: dict[tuple[str, str], Repository] = {}

    def remove(self) -> None:
        """Deletes the contents from the disk."""
        shutil.rmtree(self.root, ignore_errors=True)

    def repo(self, repo_id: str, repo_type: str = "model") -> Repository | None:
        """Finds a repository; upper and lower case are the same."""
        return self.repositories.get((repo_type, repo_id.lower()))

    def create(self, repo_id: str, repo_type: str = "model", private: bool = False) -> Repository:
        """Makes a repository with the first commit that the Hub makes."""
        repository = self.repositories[(repo_type, repo_id.lower())] = Repository(repo_id, repo_type, private)
        attributes = "".join(f"{name} filter=lfs diff=lfs merge=lfs -text\n" for name in LARGE_NAMES)
        self.commit(
            repository, "refs/heads/main", "initial commit", [(".gitattributes", self.entry(attributes.encode()))]
        )
        return repository

    def add_file(
        self,
        repo_id: str,
        path: str,
        content: bytes,
        repo_type: str = "model",
        revision: str = "main",
        large: bool | None = None,
    ) -> str:
        """Puts a file there without a client, also one that no client would send. Returns the commit's id."""
        repository = self.repo(repo_id, repo_type) or self.create(repo_id, repo_type)
        entry = self.entry(content, large=is_large(path, len(content)) if large is None else large)
        return self.commit(repository, f"refs/heads/{revision}", f"add {path}", [(path, entry)])

    def files(self, repo_id: str, revision: str = "main", repo_type: str = "model") -> set[str]:
        """Names of the files of a repository, without the one that the Hub itself adds."""
        return set(self.tree(repo_id, revision, repo_type)) - {".gitattributes"}

    def read(self, repo_id: str, path: str, revision: str = "main", repo_type: str = "model") -> bytes:
        """The content of a file."""
        return self.blob(self.tree(repo_id, revision, repo_type)[path].sha256).read_bytes()

    def tree(self, repo_id: str, revision: str = "main", repo_type: str = "model") -> dict[str, Entry]:
        """The files of a revision by name."""
        repository = self.repo(repo_id, repo_type)
        if repository is None:
            raise KeyError(f"there is no {repo_type} {repo_id!r} on this Hub")
        tree: dict[str, Entry] = repository.commits[self.resolve(repository, revision)]["tree"]
        return tree

    def blob(self, sha256: str) -> Path:
        """Where a content lies."""
        return self.root / sha256

    def put_blob(self, content: bytes) -> str:
        """Keeps a content; returns its hash."""
        sha256 = hashlib.sha256(content).hexdigest()
        temporary = self.root / f"{sha256}.{threading.get_ident()}"
        temporary.write_bytes(content)
        os.replace(temporary, self.blob(sha256))
        return sha256

    def entry(self, content: bytes, *, large: bool = False) -> Entry:
        """Keeps the content of a file."""
        sha256 = self.put_blob(content)
        return self.large_entry(sha256) if large else Entry(sha256, git_hash(content), len(content), False)

    def large_entry(self, sha256: str) -> Entry:
        """The entry of a large file whose content is here."""
        size = self.blob(sha256).stat().st_size
        return Entry(sha256, git_hash(POINTER.format(sha256, size).encode()), size, True)

    def commit(
        self,
        repository: Repository,
        ref: str,
        title: str,
        changes: Iterable[tuple[str, Entry | None]],
        *,
        message: str = "",
        author: str = "tester",
        parent: str | None = None,
    ) -> str:
        """Makes a commit; a change to None deletes. Returns its id."""
        with self.lock:
            parent = parent or repository.refs.get(ref)
            files = {**(repository.commits[parent]["tree"] if parent else {}), **dict(changes)}
            tree = {path: entry for path, entry in sorted(files.items()) if entry is not None}
            hashes = [(path, entry.git_hash) for path, entry in tree.items()]
            seed = json.dumps([parent, title, repository.id, len(repository.commits), hashes])
            commit = repository.refs[ref] = hashlib.sha1(seed.encode(), usedforsecurity=False).hexdigest()
            date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
            known = {"parent": parent, "title": title, "message": message, "date": date, "author": author, "tree": tree}
            repository.commits[commit] = known
            return commit

    def resolve(self, repository: Repository, revision: str) -> str:
        """The commit of a branch, a tag, a ref, or the beginning of a commit's id."""
        for name in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if name in repository.refs:
                return repository.refs[name]
        is_id = re.fullmatch("[0-9a-f]{5,40}", revision)
        found = [commit for commit in repository.commits if is_id and commit.startswith(revision)]
        if len(found) != 1:
            raise RefusedRequest(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found[0]

    def describe(self, repository: Repository, commit: str, *, with_hashes: bool = False) -> dict[str, Any]:
        """What the Hub tells of a repository."""
        tree: dict[str, Entry] = repository.commits[commit]["tree"]
        card: dict[str, Any] = {}
        if "README.md" in tree:
            content = self.blob(tree["README.md"].sha256).read_text(encoding="utf-8", errors="replace")
            card = check_card(content)[0]
        library, task = card.get("library_name"), card.get("pipeline_tag")
        tags = [*(card.get("tags") or []), library, task, f"license:{card.get('license', 'unknown')}"]
        return {
            "id": repository.id,
            "author": repository.id.split("/")[0],
            "sha": commit,
            "lastModified": repository.commits[commit]["date"],
            "private": repository.private,
            "gated": repository.gated,
            "disabled": repository.disabled,
            "downloads": repository.downloads,
            "siblings": [_sibling(path, entry, with_hashes) for path, entry in tree.items()],
            "cardData": card,
            "tags": [tag for tag in tags if tag],
            "library_name": library,
            "pipeline_tag": task,
        }


def git_hash(content: bytes) -> str:
    """What git calls a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def is_large(path: str, size: int) -> bool:
    """Whether the Hub stores a file apart from the git repository."""
    return size > 0 and (size > LARGE_SIZE or any(fnmatch.fnmatch(path, name) for name in LARGE_NAMES))


def check_card(text: str) -> tuple[dict[str, Any], list[str], list[str]]:
    """Metadata, errors and warnings of a README.md."""
    import yaml

    match = FRONT_MATTER.match(text)
    warnings = [] if match else ["empty or missing yaml metadata in repo card"]
    try:
        data = yaml.safe_load(match[1]) if match else {}
        names = [name for name in ("library_name", "pipeline_tag") if not isinstance(data.get(name, ""), str)]
    except (yaml.YAMLError, AttributeError, ValueError) as error:
        return {}, [f"YAML metadata error: {error}"], []
    return data, [f'"{name}" must be a string' for name in names], warnings


def _sibling(path: str, entry: Entry, with_hashes: bool) -> dict[str, Any]:
    if not with_hashes:
        return {"rfilename": path}
    large = {"lfs": {"sha256": entry.sha256, "size": entry.size, "pointerSize": 134}} if entry.large else {}
    return {"rfilename": path, "size": entry.size, "blobId": entry.git_hash, **large}
