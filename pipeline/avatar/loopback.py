"""A Hub on this computer: serves a folder as a model repository to the real `huggingface_hub` client.

Answers what downloading asks for: revisions, commits, file lists, files, parts of files. Reachable from this computer
alone. Knows no model.
"""

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

# kept by the Hub's large-file storage, known by their SHA-256
LARGE_SUFFIXES = (".pt", ".safetensors", ".bin", ".onnx", ".png")
PIECE = 2**16  # bytes sent at a time


class Served(NamedTuple):
    """One file of the repository.

    Args:
        path: In the repository, with slashes.
        file: Where it is.
        size: Bytes.
        blob_id: Git's SHA-1 of it.
        sha256: Of a large file; None for the others.
    """

    path: str
    file: Path
    size: int
    blob_id: str
    sha256: str | None

    @property
    def etag(self) -> str:
        """What the Hub calls this content by, and the client's cache as well."""
        return self.sha256 or self.blob_id


def served(path: str, file: Path) -> Served:
    """A file as the Hub describes it: the SHA-256 of large ones, git's SHA-1 of the others."""
    content = file.read_bytes()
    blob_id = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    sha256 = hashlib.sha256(content).hexdigest() if path.endswith(LARGE_SUFFIXES) else None
    return Served(path, file, len(content), blob_id, sha256)


class Answer(BaseHTTPRequestHandler):
    """One connection. Tests make the faults of a real network by overriding `send_part`."""

    protocol_version = "HTTP/1.1"
    server: "LoopbackHub"

    def do_HEAD(self) -> None:
        """A file's size and hash."""
        self._answer(with_body=False)

    def do_GET(self) -> None:
        """What the repository holds, or a file."""
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        hub = self.server
        path = unquote(urlsplit(self.path).path)
        if found := re.fullmatch(rf"/api/models/{hub.repository}(?:/(revision|tree|commits)/([^/]+)(?:/(.*))?)?", path):
            kind, revision, folder = found.groups()
            if revision not in (None, "main", *hub.commits):
                self._refuse(HTTPStatus.NOT_FOUND, "RevisionNotFound")
            elif kind == "tree":
                self._json(list(self._tree(folder or "")))
            elif kind == "commits":
                known = {"authors": [], "date": "2025-05-28T00:00:00.000Z", "title": "", "message": ""}
                self._json([{"id": commit, **known} for commit in hub.commits])
            else:
                commit = hub.commits[0] if revision in (None, "main") else revision
                self._json(
                    {"id": hub.repository, "sha": commit, "siblings": [{"rfilename": name} for name in hub.files]}
                )
        elif found := re.fullmatch(rf"/{hub.repository}/resolve/([^/]+)/(.+)", path):
            revision, name = found.groups()
            if revision not in ("main", *hub.commits):
                self._refuse(HTTPStatus.NOT_FOUND, "RevisionNotFound")
            elif name not in hub.files:
                self._refuse(HTTPStatus.NOT_FOUND, "EntryNotFound")
            else:
                self._resolve(hub.files[name], hub.commits[0] if revision == "main" else revision, with_body=with_body)
        elif found := re.fullmatch(r"/large/([0-9a-f]{64})", path):
            file = next(file for file in hub.files.values() if file.sha256 == found[1])
            self._file(file, {}, with_body=with_body)
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "RepoNotFound")

    def _tree(self, folder: str) -> Iterator[dict[str, Any]]:
        for file in self.server.files.values():
            if not folder or file.path.startswith(f"{folder}/"):
                entry: dict[str, Any] = {"type": "file", "path": file.path, "size": file.size, "oid": file.blob_id}
                if file.sha256:
                    entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 134}
                yield entry

    def _resolve(self, file: Served, commit: str, *, with_body: bool) -> None:
        """A small file, or for a large one where it lies, as the Hub answers."""
        headers = {"X-Repo-Commit": commit, "ETag": f'"{file.etag}"'}
        if file.sha256 is None:
            self._file(file, headers, with_body=with_body)
            return
        self.send_response(HTTPStatus.FOUND)
        headers |= {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(file.size), "Content-Length": "0"}
        for name, value in {**headers, "Location": self.server.large(file.sha256)}.items():
            self.send_header(name, value)
        self.end_headers()

    def _file(self, file: Served, headers: dict[str, str], *, with_body: bool) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        begin = int(asked[1]) if asked else 0
        end = min(int(asked[2]) + 1, file.size) if asked and asked[2] else file.size
        if asked and begin >= file.size:
            self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "")
            return
        self.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
        headers = {**headers, "Content-Length": str(end - begin), "Accept-Ranges": "bytes"}
        if asked:
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{file.size}"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            with contextlib.suppress(ConnectionError):  # the client went away
                self.send_part(file, begin, end)

    def send_part(self, file: Served, begin: int, end: int) -> None:
        """Send the bytes from `begin` to before `end`."""
        with file.file.open("rb") as opened:
            opened.seek(begin)
            while begin < end and (piece := opened.read(min(PIECE, end - begin))):
                self.wfile.write(piece)
                begin += len(piece)

    def _json(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: HTTPStatus, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


class LoopbackHub(ThreadingHTTPServer):
    """The server.

    Args:
        folder: What it serves, read once.
        repository: "owner/name".
        commits: Full hashes, the newest first; all of them hold the same files.
        answer: Who answers.
    """

    daemon_threads = True
    block_on_close = False  # a client may keep its connection

    def __init__(self, folder: Path, repository: str, commits: tuple[str, ...], answer: type[Answer] = Answer) -> None:
        super().__init__(("127.0.0.1", 0), answer)
        self.repository, self.commits = repository, commits
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        names = [path.relative_to(folder).as_posix() for path in paths]
        self.files = {name: served(name, path) for name, path in zip(names, paths, strict=True)}

    @property
    def url(self) -> str:
        """Its address, for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_port}"

    def large(self, sha256: str) -> str:
        """Where a large file lies: at another host by name, as the Hub's large files do: no token goes there."""
        return f"http://localhost:{self.server_port}/large/{sha256}"


@contextlib.contextmanager
def serve(
    folder: Path, repository: str, commits: tuple[str, ...], answer: type[Answer] = Answer
) -> Iterator[LoopbackHub]:
    """Serve `folder` until the context ends; arguments as `LoopbackHub`."""
    hub = LoopbackHub(folder, repository, commits, answer)
    thread = threading.Thread(target=hub.serve_forever, name="loopback-hub", daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
