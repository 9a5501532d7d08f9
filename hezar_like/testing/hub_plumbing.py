"""Requests and answers of the Hub for tests, and the faults that tests ask for."""

from __future__ import annotations

import json
import re
import socket
import time
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, unquote

from .hub_store import RefusedRequest

if TYPE_CHECKING:
    from .hub_server import Fault, HubServer

__all__ = ["Plumbing"]

LINE_BREAKS = re.compile(r"[\0\r\n]")


class Plumbing(BaseHTTPRequestHandler):
    """Reads a request, logs it, lets it go wrong when a test wants that, and answers."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # the body would wait for the receipt of the headers
    hub: ClassVar[HubServer]
    is_cdn: ClassVar[bool]

    def log_message(self, format: str, *args: Any) -> None:
        """Prints nothing."""

    def answer(
        self,
        status: int,
        body: Any = b"",
        headers: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> None:
        """Sends an answer; what is not bytes is sent as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        fault, self.entry["status"] = self.fault, status
        sent = {"Content-Type": content_type, "Content-Length": str(len(content)), **(headers or {})}
        sent |= dict(fault.headers) if fault else {}
        self.send_response(status)
        for name, value in sent.items():
            if fault is None or name not in tuple(fault.drop_headers):
                self.send_header(name, LINE_BREAKS.sub(" ", value).encode("latin-1", "replace").decode("latin-1"))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault is not None and fault.corrupt and content:
            content = bytes([content[0] ^ 1]) + content[1:]
        stall, cut = (None, None) if fault is None else (fault.stall_after, fault.cut_after)
        self.wfile.write(content[: stall if cut is None else cut])
        self.wfile.flush()
        if fault is not None and stall is not None:
            time.sleep(fault.delay)
        if (stall, cut) != (None, None):
            self.hang_up()

    def hang_up(self) -> None:
        """Ends the connection."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def run(self) -> None:
        """Handles one request."""
        self.raw, _, query = self.path.partition("?")
        self.query = parse_qs(query)
        self.fault: Fault | None = None
        self.entry: dict[str, Any] = {
            "method": self.command,
            "path": unquote(self.raw),
            "query": query,
            "cdn": self.is_cdn,
            "status": 0,
            "headers": {name.lower(): value for name, value in self.headers.items()},
        }
        try:
            self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.raw.startswith("/_admin/"):
                self.administrate(self.raw.removeprefix("/_admin/"))
                return
            self.hub.log.append(self.entry)
            self.fault = fault = self.hub.take_fault(self.command, self.entry["path"])
            if fault is not None and fault.stall_after is None:
                time.sleep(fault.delay)
            if fault is not None and fault.status is not None:
                raise RefusedRequest(fault.status, "injected fault")
            if fault is not None and fault.drop:
                self.hang_up()
            else:
                self.route()
        except RefusedRequest as error:
            self.answer(error.status, {"error": error.message}, error.headers)
        except OSError:  # the client went away
            self.close_connection = True
        except Exception as error:  # a mistake here must not look like a broken network
            message = f"the Hub for tests: {error!r}"
            self.answer(500, {"error": message}, {"X-Error-Message": message})

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = run

    def administrate(self, word: str) -> None:
        """The faults and the log of a Hub in another process: POST fault {...}, POST clear, GET log."""
        if word == "fault":
            self.hub.fault(**json.loads(self.body))
        elif word == "clear":
            self.hub.clear()
        self.answer(200, self.hub.log if word == "log" else {})

    def route(self) -> None:
        """Does what was asked for."""
        raise NotImplementedError

    def first(self, name: str, default: str = "") -> str:
        """One value of the query."""
        return self.query.get(name, [default])[-1]

    def json(self) -> Any:
        """The body of the request."""
        return json.loads(self.body or b"{}")
