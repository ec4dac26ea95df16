"""An attention page or folder shown on this machine alone: loopback, reads only, no path taken from a request."""

import contextlib
import errno
import logging
import re
import socket
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from dualform.errors import FileError, InputError, require
from dualform.reading import existing_file
from dualform.reports.attention_folder import AttentionFolder
from dualform.reports.attention_page import GENERATOR

_LOG = logging.getLogger(__name__)
HOST = "127.0.0.1"
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What is sent with every answer; the page's own policy is narrower still, and both hold."""
REQUEST = re.compile(
    r"/map/(?P<layer>\d{1,6})/(?P<map>\d{1,6}|mean|max)/"
    r"(?P<what>row/\d{1,9}|column/\d{1,9}|region/\d{1,9}/\d{1,9}/\d{1,9}/\d{1,9})"
)
"""All that can be asked for beside the page: numbers, and never the name of a file."""

Answer = tuple[HTTPStatus, str, bytes]


def serve(path: str | Path, port: int = 0, on_ready: Callable[[str], None] = lambda address: None) -> None:
    """Show an attention page or folder at http://127.0.0.1:PORT/ until interrupted (Ctrl-C).

    **Arguments:** path: a page of `write_attention_page` or a folder of `write_attention_folder`. port: 0 for a free one.
    on_ready: called with the address once it answers.

    **Raises:** `FileError` where the path is missing or holds something else; `InputError` where the port cannot be had.
    """
    with contextlib.suppress(KeyboardInterrupt), attention_server(path, port) as server:
        on_ready(f"http://{HOST}:{server.server_port}/")
        server.serve_forever(poll_interval=0.2)


def attention_server(path: str | Path, port: int = 0) -> ThreadingHTTPServer:
    """The server itself, bound and not yet running; for the arguments and the errors see `serve`."""
    require(0 <= port <= 65535, f"--port {port}: a port is from 1 to 65535, or 0 for any free one.")
    answer = _answers(Path(path))

    class Handler(_Handler):
        answers = staticmethod(answer)

    try:
        server = _Server((HOST, port), Handler)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InputError(
                f"port {port} is in use by another program. Give another one, or none for a free one."
            ) from None
        if error.errno == errno.EACCES:
            raise InputError(
                f"port {port} may not be used here; ports below 1024 are the system's own. Give another one."
            ) from None
        raise InputError(f"port {port} cannot be had ({error}). Give another one, or none for a free one.") from None
    return server


def _answers(path: Path) -> Callable[[str], Answer]:
    if path.is_dir():
        folder = AttentionFolder(path)
        page = folder.page().encode("utf-8", "xmlcharrefreplace")
        return lambda target: _page(page) if target == "/" else _map(folder, target)
    try:
        page = existing_file(path, "a page")[0].read_bytes()
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{str(path)!r} cannot be read: {error.strerror}.") from None
    if f'<meta name="generator" content="{GENERATOR}">'.encode() not in page[:4096]:
        raise FileError(
            f"{str(path)!r} is no attention page of this version. Write it again with `write_attention_page`."
        )
    return lambda target: _page(page) if target == "/" else _nothing()


def _page(page: bytes) -> Answer:
    return HTTPStatus.OK, "text/html; charset=utf-8", page


def _nothing(why: str = "There is nothing here.") -> Answer:
    return HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", why.encode()


def _map(folder: AttentionFolder, target: str) -> Answer:
    asked = REQUEST.fullmatch(target)
    if not asked:
        return _nothing()
    name = asked["map"]
    what, *numbers = asked["what"].split("/")
    try:
        packed = folder.map(int(asked["layer"]), name if name in ("mean", "max") else int(name))
        values = getattr(folder, what)(packed, *map(int, numbers))
    except InputError as error:
        return _nothing(str(error))
    return HTTPStatus.OK, "application/octet-stream", np.ascontiguousarray(values, "<f4").tobytes()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing is printed of a reader that goes away in the middle; other faults of a request are logged."""
        del request, client_address
        _LOG.debug("a request was broken off", exc_info=True)

    def server_bind(self) -> None:
        # The standard one asks the network for this machine's name.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = HOST, int(self.socket.getsockname()[1])


class _Handler(BaseHTTPRequestHandler):
    answers: Callable[[str], Answer]
    server_version, sys_version = "dualform", ""
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        port = self.server.socket.getsockname()[1]  # pyright: ignore[reportAttributeAccessIssue] - a TCP socket
        # A name that a stranger's site points at this machine (DNS rebinding) comes with its own Host.
        if self.headers.get_all("Host") not in ([f"{HOST}:{port}"], [f"localhost:{port}"]):
            return self._send(
                HTTPStatus.FORBIDDEN, "text/plain; charset=utf-8", b"This server is for this machine alone."
            )
        self._send(*self.answers(self.path))

    def refuse(self) -> None:
        self.close_connection = True  # a body is not read
        self._send(HTTPStatus.METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", b"This server only answers GET.")

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = refuse

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the reader has gone
            self.send_response(status)
            for name, value in {
                "Content-Type": kind,
                "Content-Length": str(len(body)),
                "Content-Security-Policy": POLICY,
                "X-Content-Type-Options": "nosniff",
                "Cross-Origin-Resource-Policy": "same-origin",
                "Referrer-Policy": "no-referrer",
                "Cache-Control": "no-store",
                **({"Allow": "GET"} if status == HTTPStatus.METHOD_NOT_ALLOWED else {}),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed for each request."""
        del format, args
