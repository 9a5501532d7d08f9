"""A Hub that offers Xet, whose storage is a folder: hf_xet itself writes there and reads from there.

hf_xet knows storages named local://FOLDER, for its own tests. What goes between it and the Hub, and all that its
library does to the bytes, is as on the real Hub; the requests between it and a storage on the network are not made.
"""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Any

from hf_xet import XetFileInfo, XetSession

from hezar_like.testing import HubServer
from hezar_like.testing.hub_handler import Handler
from hezar_like.testing.hub_store import Entry

WITH_CHECKS, WITH_SHA256 = 1 << 31, 1 << 30
TOKEN = "xet_secret"
BLOCK = 48
"""Bytes of everything in a shard, the storage's list of files."""


class XetHandler(Handler):
    hub: XetHub  # type: ignore[misc]

    def route(self) -> None:
        if "/xet-" not in self.raw:
            super().route()
            return
        self.identify()
        repo_id, _, word = self.raw.removeprefix("/api/models/").partition("/xet-")
        self.need("model", repo_id, write=word.startswith("write"))
        expires = int(time.time()) + 3600
        body = {"casUrl": self.hub.storage, "accessToken": TOKEN, "exp": expires}  # for hf_xet; the client reads the headers
        headers = {"X-Xet-Cas-Url": self.hub.storage, "X-Xet-Access-Token": TOKEN, "X-Xet-Token-Expiration": str(expires)}
        self.answer(200, body, headers)

    def answer(self, status: int, body: Any = b"", headers: dict[str, str] | None = None, content_type: str = "application/json") -> None:
        sha256 = (headers or {}).get("Location", "").rpartition("/cdn/")[2]
        if sha256 in self.hub.xet_hashes:
            route = f"{self.hub.url}{self.raw.partition('/resolve/')[0].replace('/', '/api/models/', 1)}/xet-read-token/main"
            headers = {**(headers or {}), "X-Xet-Hash": self.hub.xet_hashes[sha256], "Link": f'<{route}>; rel="xet-auth"'}
        super().answer(status, body, headers, content_type)

    def changes(self, tree: dict[str, Entry], kind: str, value: dict[str, Any]) -> list[tuple[str, Entry | None]]:
        if kind == "lfsFile":
            self.hub.take_in()
        return super().changes(tree, kind, value)


class XetHub(HubServer):
    """Attributes:
    folder: Where the storage is.
    storage: What the Hub says of it; tests may let it say something else.
    xet_hashes: How Xet calls the files it has, by their SHA-256.
    """

    handler = XetHandler

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(**options)
        self.folder, self.storage = folder, f"local://{folder}"
        self.xet_hashes: dict[str, str] = {}

    def take_in(self) -> None:
        """Learns which files were uploaded to the storage, and keeps their contents."""
        for shard in self.folder.glob("xet/xorbs/shards/*.mdb"):
            for sha256, (xet_hash, size) in files_of(shard.read_bytes()).items():
                if sha256 not in self.xet_hashes:
                    path = self.folder / "taken"
                    with XetSession().new_file_download_group(endpoint=f"local://{self.folder}", token="x", token_expiry_unix_secs=2**33) as group:
                        group.start_download_file(XetFileInfo(xet_hash, size), str(path))
                    assert self.put_blob(path.read_bytes()) == sha256
                    self.xet_hashes[sha256] = xet_hash


def files_of(shard: bytes) -> dict[str, tuple[str, int]]:
    """Xet's hash and the size of each file, by its SHA-256; see "shard" in Xet's specification."""
    found, at = {}, BLOCK
    while shard[at : at + 32] != b"\xff" * 32:
        flags, count = struct.unpack("<II", shard[at + 32 : at + 40])
        segments = [at + BLOCK * (1 + number) for number in range(count)]
        size = sum(struct.unpack("<I", shard[start + 36 : start + 40])[0] for start in segments)
        rows = 1 + count * (2 if flags & WITH_CHECKS else 1)
        if flags & WITH_SHA256:
            found[_hash(shard[at + BLOCK * rows :])] = _hash(shard[at:]), size
            rows += 1
        at += BLOCK * rows
    return found


def _hash(content: bytes) -> str:
    return "".join(f"{part:016x}" for part in struct.unpack("<4Q", content[:32]))
