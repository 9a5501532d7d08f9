"""The Hub: finding and downloading the files of a model; `push` sends them.

A name is resolved once to a folder or to one commit of a repository; every file then comes from there.
"""

from __future__ import annotations

import difflib
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from .errors import CheckpointError, HubError, did_you_mean
from .files import located
from .hub_client import Access, explained, fallback_warnings
from .hub_errors import redact
from .hub_files import find_file
from .hub_names import check_option, check_repo_id, check_revision
from .hub_push import push
from .paths import check_name, folder_at, shortened, text_of

__all__ = ["Source", "push", "resolve"]

logger = logging.getLogger("hezar_like")


@dataclass(frozen=True)
class Source:
    """Where the files of a model are: a folder, or one commit of a Hub repository. Made by `resolve`.

    Attributes:
        name: What the user wrote.
        folder: The folder, or None for a repository.
        repo_id: The repository, or None for a folder.
        commit: The full id of the commit all files are taken from, or None for a folder.
        found: The files that were asked for so far and are there, by their names.
    """

    name: str
    folder: Path | None = None
    repo_id: str | None = None
    commit: str | None = None
    found: dict[str, Path] = field(default_factory=dict, repr=False, compare=False)
    _access: Access = field(default_factory=Access, repr=False, compare=False)

    def __str__(self) -> str:
        if self.repo_id is None:
            return f"folder {self.name!r}"
        return f"{self.repo_id}@{str(self.commit)[:7]}" + (" (cache only)" if self._access.cache_only else "")

    def find(self, filename: str) -> Path | None:
        """Finds one file; for a repository, downloads it into the cache of the Hub's client when it is not there yet.

        What is downloaded is checked against the hash that the Hub announced; what was in the cache before, when the
        source was resolved with `verify`. A broken file is downloaded once more.

        Args:
            filename: A plain relative name, such as "preprocessor/tokenizer.json".

        Returns:
            Its path, or None when the source has no such file. A source that is used from the cache only gives None
            also for a file that was never downloaded.

        Raises:
            CheckpointError: When the name points outside the source.
            HubError: When the Hub cannot be reached or refuses, or the file is broken.
        """
        check_name(filename, str(self))
        if self.folder is None:
            path = self.found.get(filename) or find_file(self._access, self.name, str(self.commit), filename)
        else:
            path = located(self.folder, filename)
        if path is not None:
            self.found[filename] = path
        return path

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


def resolve(
    path_or_repo: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    verify: bool = False,
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
        verify: Check files that are in the cache already, too, against the hashes that the Hub announced.

    Raises:
        HubError: When it is neither, or the Hub refuses or cannot be reached.
    """
    name = text_of(path_or_repo, "the model's name")
    if not name.strip():
        raise HubError("the model's name is empty; give a folder or a Hub id such as 'org/name'")
    folder = os.path.expanduser(name)
    if os.path.isdir(folder):
        return Source(name, folder=Path(folder))
    if os.path.exists(folder):
        raise HubError(f"{name!r} is a file; give its folder {os.path.dirname(folder) or '.'!r} instead")
    if os.path.lexists(folder):
        raise HubError(f"{name!r} is a link that leads nowhere; mend it, or give the folder itself")
    if name.lower().startswith(("http:", "https:", "hf:")):
        raise HubError(f"{redact(shortened(name))} is an address; give the Hub id alone, such as 'org/name'")
    if not isinstance(path_or_repo, str) or _looks_like_path(name):
        raise HubError(
            f"folder {shortened(name)} does not exist, and it cannot be a Hub id such as 'org/name'; check the path."
            + did_you_mean(os.path.basename(name.rstrip("/\\")), _near_folders(folder))
        )
    check_repo_id(name)
    check_revision(revision)
    check_option("local_files_only", local_files_only)
    check_option("verify", verify)
    from huggingface_hub.constants import is_offline_mode

    # Asking for offline use is a wish and needs no warning; a Hub that is down does.
    cache_only = local_files_only or is_offline_mode()
    cache = None if cache_dir is None else folder_at(cache_dir, "cache_dir")
    access = Access(token, cache, cache_only, verify)
    where = f"revision {revision!r} of {name!r}" if revision else repr(name)
    # Without `call`: what asks the Hub here tries again by itself, and where nothing is asked no connection is made.
    with fallback_warnings() as warnings, explained(where):
        resolved = access.client().resolve_revision(
            name, revision=revision, cache_dir=access.cache_dir, local_files_only=cache_only
        )
    if warnings:
        logger.warning("the Hub cannot be reached; using what the cache has of %r at %s", name, resolved.resolved)
        access.cache_only = True  # do not wait again for each file
    return Source(name, repo_id=name, commit=resolved.resolved, _access=access)


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
