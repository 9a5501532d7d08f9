"""A small Hub on this computer, for testing uploads and downloads with the real huggingface_hub client.

    with HubServer() as hub:
        api = HfApi(endpoint=hub.url, token=hub.token)     # or HF_ENDPOINT=hub.url for another process
        hub.fault("/cdn/", cut_after=1000)                 # break the next download after 1000 bytes
        hub.log                                            # every request: method, path, headers, status

or `python -m hezar_like.testing.hub_server --port 8123`. It needs the standard library and PyYAML. Large files are
served from a second port, another origin as on the real Hub: a token that leaks there is seen in the log. It knows no
Xet (set HF_HUB_DISABLE_XET=1), no uploads in parts, no discussions and no spaces.
"""

from __future__ import annotations

import argparse
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any, ClassVar, Self

from .hub_handler import Handler
from .hub_store import HubStore

__all__ = ["Fault", "HubServer"]

TOKEN = "hf_test"


@dataclass
class Fault:
    """What goes wrong with some requests; see `HubServer.fault`."""

    path: str
    method: str | None = None
    times: int = 1
    skip: int = 0
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut_after: int | None = None
    stall_after: int | None = None
    corrupt: bool = False
    drop: bool = False
    drop_headers: Iterable[str] = ()

    def takes(self, method: str, path: str) -> bool:
        """Whether it happens to this request; counts it."""
        if not self.times or self.method not in (None, method) or not re.search(self.path, path):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= self.times > 0
        return True


class HubServer(HubStore):
    """The Hub. Close it with `with`.

    Args:
        tokens: Users by their tokens: {"name", "orgs": [...], "role": "read" or "write"}; default: one who may write.
        port: The port; 0 for a free one.
        page_size: How many files a page of a listing has.

    Attributes:
        url: Its address, for HF_ENDPOINT.
        cdn_url: The address from which large files come.
        token: The first of the tokens.
        log: The requests so far: dictionaries with method, path, query, headers, cdn, status.
        handler: What answers; another Hub may know more than this one.
    """

    handler: ClassVar[type[Handler]] = Handler

    def __init__(
        self, tokens: Mapping[str, Mapping[str, Any]] | None = None, port: int = 0, page_size: int = 1000
    ) -> None:
        super().__init__()
        self.tokens = dict(tokens or {TOKEN: {"name": "tester", "orgs": ["acme"], "role": "write"}})
        self.token = next(iter(self.tokens))
        self.page_size = page_size
        self.faults: list[Fault] = []
        self.log: list[dict[str, Any]] = []
        self._servers: list[ThreadingHTTPServer] = []
        for number, is_cdn in ((port, False), (0, True)):
            handler = type("BoundHandler", (self.handler,), {"hub": self, "is_cdn": is_cdn})
            server = ThreadingHTTPServer(("127.0.0.1", number), handler)
            threading.Thread(target=server.serve_forever, args=(0.005,), daemon=True).start()
            self._servers.append(server)
        self.url, self.cdn_url = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self.remove()

    def fault(
        self,
        path: str,
        method: str | None = None,
        times: int = 1,
        skip: int = 0,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        delay: float = 0.0,
        cut_after: int | None = None,
        stall_after: int | None = None,
        corrupt: bool = False,
        drop: bool = False,
        drop_headers: Iterable[str] = (),
    ) -> None:
        """Makes coming requests go wrong.

        Args:
            path: A regular expression that is searched in the request's path.
            method: Only requests of this method.
            times: How many requests; -1 for all.
            skip: How many such requests go well before.
            status: Answer with this status, such as 503, and do nothing.
            headers: Headers to add to the answer, such as {"Retry-After": "1"}.
            delay: Seconds before the answer, or in the middle of it with `stall_after`.
            cut_after: Do what was asked for, and hang up after this many bytes of the answer's body.
            stall_after: Be silent for `delay` seconds after this many bytes, then hang up.
            corrupt: Flip a bit of the body.
            drop: Hang up and do nothing.
            drop_headers: Leave these headers out.
        """
        self.faults.append(
            Fault(path, method, times, skip, status, headers or {}, delay, cut_after, stall_after, corrupt, drop,
                  tuple(drop_headers))
        )  # fmt: skip

    def take_fault(self, method: str, path: str) -> Fault | None:
        """What goes wrong with a request."""
        with self.lock:
            return next((fault for fault in self.faults if fault.takes(method, path)), None)

    def clear(self) -> None:
        """Forgets faults and requests."""
        self.faults.clear()
        self.log.clear()

    def requests(self, method: str | None = None, path: str = "") -> list[dict[str, Any]]:
        """The requests so far of a method, whose path has a match of a regular expression."""
        return [entry for entry in self.log if method in (None, entry["method"]) and re.search(path, entry["path"])]


def main() -> None:
    """Runs a Hub until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m hezar_like.testing.hub_server", description=main.__doc__)
    parser.add_argument("--port", type=int, default=8123, help="0 for a free one; default: 8123")
    with HubServer(port=parser.parse_args().port) as hub:
        print(f"HF_ENDPOINT={hub.url} HF_TOKEN={hub.token} HF_HUB_DISABLE_XET=1", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
