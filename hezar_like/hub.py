"""The Hub: finding, downloading and pushing the files of a model.

A name is resolved once to a folder or to one commit of a repository; every file then comes from there. All calls of
the Hub's client go through `call`, which turns its errors into `HubError`.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import CheckpointError, HubError, did_you_mean
from .files import check_name
from .hub_client import call, fallback_warnings, redact

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["Source", "push", "resolve"]

logger = logging.getLogger("hezar_like")

CARD = "README.md"
REPO_PART = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")


@dataclass
class _Access:
    """How to reach the Hub for one source. The token stays out of its repr and its pickle."""

    token: str | bool | None = field(default=None, repr=False)
    cache_dir: Path | None = None
    cache_only: bool = False

    def api(self) -> HfApi:
        from huggingface_hub import HfApi

        import hezar_like

        # The endpoint is read here, and not only when the client is imported, so that a program can set it late.
        return HfApi(
            endpoint=os.environ.get("HF_ENDPOINT", "").rstrip("/") or None,
            token=self.token,
            library_name="hezar_like",
            library_version=getattr(hezar_like, "__version__", None),
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "token": None}


@dataclass(frozen=True)
class Source:
    """Where the files of a model are: a folder, or one commit of a Hub repository. Made by `resolve`.

    Attributes:
        name: What the user wrote.
        folder: The folder, or None for a repository.
        repo_id: The repository, or None for a folder.
        commit: The full id of the commit all files are taken from, or None for a folder.
    """

    name: str
    folder: Path | None = None
    repo_id: str | None = None
    commit: str | None = None
    _access: _Access = field(default_factory=_Access, repr=False, compare=False)

    def __str__(self) -> str:
        if self.repo_id is None:
            return f"folder {self.name!r}"
        return f"{self.repo_id}@{str(self.commit)[:7]}" + (" (cache only)" if self._access.cache_only else "")

    def find(self, filename: str) -> Path | None:
        """Finds one file; for a repository, downloads it into the cache of the Hub's client when it is not there yet.

        Args:
            filename: A plain relative name, such as "preprocessor/tokenizer.json".

        Returns:
            Its path, or None when the source has no such file. A source that is used from the cache only gives None
            also for a file that was never downloaded.

        Raises:
            CheckpointError: When the name points outside the source.
            HubError: When the Hub cannot be reached or refuses.
        """
        check_name(filename, str(self))
        if self.folder is not None:
            path = self.folder / filename
            return path if path.is_file() else None
        return self._find_in_repository(filename)

    def get(self, filename: str) -> Path:
        """Finds one file that must be there; see `find`.

        Raises:
            CheckpointError: When the source has no such file.
            HubError: When the Hub cannot be reached or refuses, or the file is not in the cache and only that is used.
        """
        path = self.find(filename)
        if path is not None:
            return path
        if self._access.cache_only:
            raise HubError(f"{filename!r} of {self} is not in the cache; load this model once with the Hub in reach")
        raise CheckpointError(f"{self} has no file {filename!r}; check that it is a model, or save the model again")

    def _find_in_repository(self, filename: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import RemoteEntryNotFoundError

        assert self.repo_id is not None
        repo_id, access = self.repo_id, self._access
        cached = try_to_load_from_cache(repo_id, filename, cache_dir=access.cache_dir, revision=self.commit)
        if isinstance(cached, str):
            return Path(cached)
        # Anything else but None is the client's note that this commit has no such file.
        if cached is not None or access.cache_only:
            return None

        def download() -> Path | None:
            options: dict[str, Any] = {"revision": self.commit, "cache_dir": access.cache_dir}
            try:
                return Path(access.api().hf_hub_download(repo_id, filename, **options))
            except RemoteEntryNotFoundError:
                return None

        return call(f"{filename!r} of {repo_id!r}", download)


def resolve(
    path_or_repo: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Source:
    """Tells a folder from a Hub repository, and pins a repository to one commit.

    A folder that exists is that folder, without any network. A repository whose commit and files are in the cache
    costs no request when `revision` is a full commit id, and one request otherwise. `HF_ENDPOINT`, `HF_HOME`,
    `HF_TOKEN` and `HF_HUB_OFFLINE` are honoured. When the Hub is down, the commit that was last seen is used with one
    warning.

    Args:
        path_or_repo: A folder, or a repository id such as "org/name".
        revision: Branch, tag, pull request or commit of the repository; the default branch when None.
        token: A token, True for the stored one, False for none; the stored one if any when None.
        cache_dir: Another cache folder than that of the Hub's client.
        local_files_only: Use what is in the cache and make no request.

    Raises:
        HubError: When it is neither, or the Hub refuses or cannot be reached.
    """
    name = os.fspath(path_or_repo)
    if not name.strip():
        raise HubError("the model's name is empty; give a folder or a Hub id such as 'org/name'")
    folder = os.path.expanduser(name)
    if os.path.isdir(folder):
        return Source(name, folder=Path(folder))
    if os.path.exists(folder):
        raise HubError(f"{name!r} is a file; give its folder {os.path.dirname(folder) or '.'!r} instead")
    if not isinstance(path_or_repo, str) or _looks_like_path(name):
        raise HubError(
            f"folder {name!r} does not exist, and it cannot be a Hub id such as 'org/name'; check the path."
            + did_you_mean(os.path.basename(name.rstrip("/\\")), _near_folders(folder))
        )
    _check_repo_id(name)
    from huggingface_hub.constants import is_offline_mode

    # Asking for offline use is a wish and needs no warning; a Hub that is down does.
    cache_only = local_files_only or is_offline_mode()
    cache = None if cache_dir is None else Path(cache_dir).expanduser()
    access = _Access(token, cache, cache_only)
    with fallback_warnings() as warnings:
        resolved = call(
            f"revision {revision!r} of {name!r}" if revision else repr(name),
            access.api().resolve_revision,
            name,
            revision=revision,
            cache_dir=access.cache_dir,
            local_files_only=cache_only,
        )
    if warnings:
        logger.warning("the Hub cannot be reached; using what the cache has of %r at %s", name, resolved.resolved)
        access.cache_only = True  # do not wait again for each file
    return Source(name, repo_id=name, commit=resolved.resolved, _access=access)


def push(
    repo_id: str,
    files: Mapping[str, Path | bytes],
    *,
    commit_message: str,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    delete: Callable[[list[str]], Iterable[str]] | None = None,
    card: str | None = None,
) -> str:
    """Pushes exactly these files in one commit; creates the repository when it does not exist.

    A push that changes nothing makes no commit. A repository that changed while this ran is left as it is.

    Args:
        repo_id: Where to, such as "me/my-model".
        files: Name in the repository -> a local file or its content.
        commit_message: The title of the commit.
        private: Whether a new repository is private; the owner's default when None.
        token: As in `resolve`; it must allow writing.
        revision: The branch; the default one when None.
        create_pr: Open a pull request instead of committing to the branch.
        delete: Gets the names of the files that are there and gives those that the same commit deletes. Pushed names
            are never deleted.
        card: The README.md for a repository that has none. An existing one is kept.

    Returns:
        The address of the commit, or of the pull request.

    Raises:
        CheckpointError: When a name points outside the repository.
        HubError: When the Hub refuses or cannot be reached, or a local file cannot be read.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.errors import RepositoryNotFoundError

    _check_repo_id(repo_id)
    api = _Access(token).api()
    where = repr(repo_id)

    def open_repository() -> tuple[str, Any]:
        try:
            return repo_id, api.model_info(repo_id, revision=revision)
        except RepositoryNotFoundError:
            created = api.create_repo(repo_id, private=private).repo_id
            return created, api.model_info(created, revision=revision)

    full_id, head = call(where, open_repository)
    existing = [sibling.rfilename for sibling in head.siblings or ()]
    wanted = dict(files)
    if card is not None and CARD not in existing:
        wanted.setdefault(CARD, card.encode())
    operations: list[Any] = [
        call(where, CommitOperationAdd, path_in_repo=check_name(name, "this push"), path_or_fileobj=content)
        for name, content in wanted.items()
    ]
    gone = set(delete(existing) if delete else ()).intersection(existing).difference(wanted)
    operations += [CommitOperationDelete(path_in_repo=name) for name in sorted(gone)]
    commit = call(
        where,
        api.create_commit,
        full_id,
        operations,
        commit_message=commit_message,
        revision=revision,
        create_pr=create_pr,
        parent_commit=head.sha,
    )
    return str(commit.pr_url or commit.commit_url)


def _looks_like_path(name: str) -> bool:
    separators = tuple({"/", os.sep})
    return name.startswith((".", "~", *separators)) or name.endswith(separators) or name.count("/") > 1


def _near_folders(folder: str) -> list[str]:
    """The names beside a folder that does not exist which look like its name."""
    path = Path(folder)
    try:
        beside = [entry.name for entry in path.parent.iterdir() if entry.is_dir()]
    except (OSError, ValueError):
        return []
    return difflib.get_close_matches(path.name, beside)


def _check_repo_id(name: str) -> None:
    parts = name.split("/")
    valid = len(parts) <= 2 and len(name) <= 96 and all(REPO_PART.fullmatch(part) for part in parts)
    if not valid or "--" in name or ".." in name or name.endswith(".git"):
        raise HubError(
            f"{redact(repr(name))} is neither a folder that exists nor a Hub id; a Hub id is 'name' or 'org/name' of "
            f"letters, digits, '-', '_' and '.', not '-' or '.' at its ends, no '--' or '..': check the spelling"
        )
