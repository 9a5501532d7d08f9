"""One file of one commit: from the cache of the Hub's client or the Hub, and whether it is what the Hub announced.

The client never looks at a file again: a byte that flipped on its way, or on the disk, would be loaded. Its cache names
every file by the hash of the content, as the Hub told it before the download, so that checking needs no request. To
that name leads the link in the snapshot; what came by Xet is another link there, to a file with a name of Xet's own.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from .errors import HubError
from .hub_client import Access, call
from .hub_xet import give_up_xet

__all__ = ["find_file", "is_intact"]

HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
CHUNK = 1 << 20
DOWNLOADS = 2


def find_file(access: Access, repo_id: str, commit: str, filename: str) -> Path | None:
    """Finds a file; downloads it when it is not in the cache, and once more when what came is broken.

    Args:
        access: How the Hub is reached. With `verify`, a file that was in the cache is checked too.
        repo_id: The repository.
        commit: The full id of the commit.
        filename: Its name there.

    Returns:
        Its path in the cache; None when the commit has no such file, or when it is not in the cache and only that is
        used.

    Raises:
        HubError: When the Hub cannot be reached or refuses, or the file is broken.
    """
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(repo_id, filename, cache_dir=access.cache_dir, revision=commit)
    if not isinstance(cached, str):
        # Anything else but None is the client's note that this commit has no such file.
        unknown = cached is None and not access.cache_only
        return _download(access, repo_id, commit, filename) if unknown else None
    if not access.verify or _is_announced(access, repo_id, commit, filename, Path(cached)):
        return Path(cached)
    if access.cache_only:
        raise HubError(
            f"{filename!r} of {repo_id}@{commit[:7]} is broken in the cache, it is not what the Hub announced; load "
            "it once with verify=True and the Hub in reach, to download it again"
        )
    _remove(Path(cached))
    return _download(access, repo_id, commit, filename)


def is_intact(path: Path, announced: str | None = None) -> bool | None:
    """Hashes a file of the cache.

    Args:
        path: The file, as the client gave it.
        announced: Its hash when it is known; default: its name in the cache.

    Returns:
        Whether the content is what was announced; None when nothing was, as where the cache cannot use links.
    """
    expected = _blob(path).name if announced is None else announced
    if not HASH.fullmatch(expected):
        return None
    if len(expected) == 64:  # large files
        hashes = [hashlib.sha256()]
    else:  # small files go by git's hash; some mirrors give a plain SHA-1
        header = b"blob %d\0" % path.stat().st_size
        hashes = [hashlib.sha1(start, usedforsecurity=False) for start in (header, b"")]
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            for one in hashes:
                one.update(chunk)
    return expected in {one.hexdigest() for one in hashes}


def _download(access: Access, repo_id: str, commit: str, filename: str) -> Path | None:
    from huggingface_hub.errors import RemoteEntryNotFoundError

    where, client = f"{filename!r} of {repo_id!r}", access.client()

    def download() -> Path | None:
        try:
            return Path(client.hf_hub_download(repo_id, filename, revision=commit, cache_dir=access.cache_dir))
        except RemoteEntryNotFoundError:
            return None

    for _ in range(DOWNLOADS):
        path = call(where, download)
        if path is None or _is_announced(access, repo_id, commit, filename, path):
            return path
        if _blob(path).is_symlink():
            give_up_xet(f"what came of {where} is not what the Hub announced")
        _remove(path)
    raise HubError(
        f"cannot use {where}: what was downloaded, {DOWNLOADS} times, is not what the Hub announced; "
        "check the network and the proxy, and try again"
    )


def _remove(path: Path) -> None:
    """Takes a broken file out of the cache, so that nobody loads it later."""
    for file in (path.resolve(), _blob(path), path):
        file.unlink(missing_ok=True)


def _blob(path: Path) -> Path:
    """Where the link in the snapshot leads, which is not always to its end."""
    return path.parent / os.readlink(path) if path.is_symlink() else path


def _is_announced(access: Access, repo_id: str, commit: str, filename: str, path: Path) -> bool:
    intact = is_intact(path)
    if intact is not None or not access.verify:
        return intact is not False
    where = f"the hash of {filename!r} of {repo_id!r}"
    if access.cache_only:
        raise HubError(f"cannot use {where}: the cache does not know it and the Hub is not used; leave out verify=True")
    for file in call(where, access.client().get_paths_info, repo_id, filename, revision=commit):
        lfs = getattr(file, "lfs", None)
        return bool(is_intact(path, lfs.sha256 if lfs else getattr(file, "blob_id", "")))
    return False
