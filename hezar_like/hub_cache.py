"""What the cache of the Hub's client holds of models: listed, checked, removed."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import HubError, did_you_mean
from .hub_client import call
from .hub_files import is_intact

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo, HFCacheInfo

__all__ = ["CachedModel", "broken_files", "cached_models", "clean_cache", "remove_models"]

ABANDONED = 60 * 60
"""Seconds without a write after which a download is not going on."""


@dataclass(frozen=True)
class CachedModel:
    """One model in the cache.

    Attributes:
        repo_id: Its repository.
        bytes: What its files take on the disk.
        commits: The ids of its commits, the one that changed last in the cache first.
        used: When it was used last, in seconds since 1970.
    """

    repo_id: str
    bytes: int
    commits: tuple[str, ...]
    used: float


def cached_models(repo_ids: Collection[str] = ()) -> list[CachedModel]:
    """The models in the cache, by name.

    Args:
        repo_ids: Which models; all when empty.

    Raises:
        HubError: When the cache cannot be read, or one of them is not there.
    """
    return [
        CachedModel(
            repo.repo_id,
            repo.size_on_disk,
            tuple(r.commit_hash for r in sorted(repo.revisions, key=lambda r: r.last_modified, reverse=True)),
            repo.last_accessed,
        )
        for repo in _chosen(_scan(), repo_ids)
    ]


def broken_files(repo_ids: Collection[str] = ()) -> Iterator[tuple[str, str, Path | None]]:
    """Hashes the files of models; files that several commits share, once.

    Args:
        repo_ids: Which models; all when empty.

    Yields:
        For each file its repository, its name, and, when it is not what the Hub announced, its path, else None.

    Raises:
        HubError: When a model is not in the cache.
    """
    for repo in _chosen(_scan(), repo_ids):
        seen: set[Path] = set()
        for revision in sorted(repo.revisions, key=lambda revision: revision.commit_hash):
            for file in sorted(revision.files, key=lambda file: file.file_name):
                if file.blob_path not in seen:
                    seen.add(file.blob_path)
                    name = file.file_path.relative_to(revision.snapshot_path).as_posix()
                    yield repo.repo_id, name, file.file_path if is_intact(file.file_path) is False else None


def remove_models(repo_ids: Collection[str]) -> int:
    """Removes models from the cache; returns how many bytes that freed.

    Raises:
        HubError: When one of them is not there; then none is removed.
    """
    cache = _scan()
    repos = _chosen(cache, repo_ids) if repo_ids else []
    if cache is None or not repos:
        return 0
    plan = cache.delete_revisions(*(revision.commit_hash for repo in repos for revision in repo.revisions))
    call("the cache of the Hub", plan.execute)
    return plan.expected_freed_size


def clean_cache() -> int:
    """Removes what downloads that were killed left behind an hour ago or more; returns how many bytes that freed."""
    cache, freed = _scan(), 0
    for file in cache.incomplete_files if cache is not None else ():
        if time.time() - call("the cache of the Hub", file.file_path.stat).st_mtime < ABANDONED:
            continue  # a download that goes on
        freed += file.size_on_disk
        call("the cache of the Hub", file.file_path.unlink, missing_ok=True)
    return freed


def _scan() -> HFCacheInfo | None:
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    def scan() -> HFCacheInfo | None:
        try:
            return scan_cache_dir(constants.HF_HUB_CACHE)
        except CacheNotFound:
            return None

    return call("the cache of the Hub", scan)


def _models(cache: HFCacheInfo | None) -> list[CachedRepoInfo]:
    repos = cache.repos if cache is not None else ()
    return sorted((repo for repo in repos if repo.repo_type == "model"), key=lambda repo: repo.repo_id)


def _chosen(cache: HFCacheInfo | None, repo_ids: Collection[str]) -> list[CachedRepoInfo]:
    models = {repo.repo_id: repo for repo in _models(cache)}
    for repo_id in repo_ids:
        if repo_id not in models:
            raise HubError(f"{repo_id!r} is not in the cache; see: hezar_like cache.{did_you_mean(repo_id, models)}")
    return [models[repo_id] for repo_id in repo_ids or models]
