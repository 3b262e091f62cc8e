"""A hub on 127.0.0.1: files of one repository, with the headers that downloads are made by.

HEAD gives the commit, the digest as an ETag and the size; GET serves ranges.  A file can
be made to break off, to have other bytes than its digest says, or to ignore ranges.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repository:
    """What is served, how it fails, and what was asked for."""

    name: str
    files: dict[str, bytes]
    small: set[str] = field(default_factory=set)
    """Files whose digest is git's SHA-1, as the hub's small ones."""
    break_off: dict[str, list[int]] = field(default_factory=dict)
    """Bytes after which the next GETs of a file lose their connection."""
    other_bytes: dict[str, bytes] = field(default_factory=dict)
    """Served instead of what the digest was made of."""
    no_ranges: bool = False
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    """(method, file, Range)."""
    endpoint: str = ""

    def gets(self, name: str) -> list[str | None]:
        """The ranges of all GETs of a file."""
        return [r for method, file, r in self.requests if method == "GET" and file == name]

    def etag(self, name: str) -> str:
        data = self.files[name]
        if name in self.small:
            return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        return hashlib.sha256(data).hexdigest()


@contextmanager
def serving(repository: Repository) -> Iterator[Repository]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(send=False)

        def do_GET(self) -> None:
            self.answer(send=True)

        def answer(self, *, send: bool) -> None:
            start = f"/datasets/{repository.name}/resolve/main/"
            name = self.path.removeprefix(start)
            wanted = self.headers.get("Range")
            repository.requests.append((self.command, name, wanted))
            if not self.path.startswith(start) or name not in repository.files:
                missing = "EntryNotFound" if self.path.startswith(start) else "RepoNotFound"
                self.send_response(404)
                self.send_header("X-Error-Code", missing)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = repository.other_bytes.get(name, repository.files[name])
            at = 0
            if send and wanted and not repository.no_ranges:
                at = int(wanted.removeprefix("bytes=").split("-")[0])
            self.send_response(206 if at else 200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{repository.etag(name)}"')
            self.send_header("Content-Length", str(len(data) - at))
            if at:
                self.send_header("Content-Range", f"bytes {at}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            if not send:
                return
            part = data[at:]
            if breaks := repository.break_off.get(name):
                self.wfile.write(part[: breaks.pop(0)])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(part)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    repository.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield repository
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
