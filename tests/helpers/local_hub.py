"""A small server that speaks the Hub's protocol, for its real library: data sets and models."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "c" * 40
PIECE = 1 << 14


class LocalHub(ThreadingHTTPServer):
    """Serves repositories by name: `datasets/me/set` and, without a prefix, models.

    Args:
        repositories: the files of each.
        token: what a client must bring, if anything.
        pause: seconds between pieces of a file.
        host: an address of this machine.
    """

    daemon_threads = True

    def __init__(
        self,
        repositories: Mapping[str, Mapping[str, bytes]],
        token: str = "",
        pause: float = 0,
        host: str = "127.0.0.1",
    ) -> None:
        super().__init__((host, 0), _Handler)
        self.host = host
        self.repositories = repositories
        self.token = token
        self.pause = pause
        self.asked: list[str] = []

    def environment(self, home: Path) -> dict[str, str]:
        """The variables of a machine whose Hub is this server."""
        return {
            "HF_ENDPOINT": f"http://{self.host}:{self.server_port}",
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
        }


@contextmanager
def running(hub: LocalHub) -> Iterator[LocalHub]:
    """Answers while the block runs."""
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


def files_of(folder: Path) -> dict[str, bytes]:
    """A directory as a repository."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


class _Handler(BaseHTTPRequestHandler):
    server: LocalHub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None: ...

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0].strip("/")
        self.server.asked.append(path)
        status, headers, body = self._response(path)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        for start in range(0, len(body) if with_body else 0, PIECE):
            self.wfile.write(body[start : start + PIECE])
            time.sleep(self.server.pause)

    def _response(self, path: str) -> tuple[int, dict[str, str], bytes]:
        told = {"X-Repo-Commit": COMMIT}
        wanted = f"Bearer {self.server.token}"
        if self.server.token and self.headers.get("Authorization") != wanted:
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        of_api = path.removeprefix("api/").removeprefix("models/")
        for name, files in self.server.repositories.items():
            if path.startswith(f"{name}/resolve/"):
                revision, _, file = path.removeprefix(f"{name}/resolve/").partition("/")
                if revision not in ("main", COMMIT):
                    return 404, told | {"X-Error-Code": "RevisionNotFound"}, b""
                if file not in files:
                    return 404, told | {"X-Error-Code": "EntryNotFound"}, b""
                tag = hashlib.sha256(files[file]).hexdigest()
                return 200, told | {"ETag": f'"{tag}"'}, files[file]
            if path.startswith("api/") and (of_api == name or of_api.startswith(f"{name}/")):
                revision = of_api.removeprefix(name).strip("/").rpartition("/")[2] or "main"
                if revision not in ("main", COMMIT):
                    return 404, told | {"X-Error-Code": "RevisionNotFound"}, b""
                body = json.dumps(_described(name, files, tree="/tree/" in of_api)).encode()
                return 200, told | {"Content-Type": "application/json"}, body
        return 404, {"X-Error-Code": "RepoNotFound"}, b""


def _described(name: str, files: Mapping[str, bytes], *, tree: bool) -> object:
    if tree:
        return [
            {"type": "file", "path": file, "size": len(content), "oid": "0" * 40}
            for file, content in files.items()
        ]
    siblings = [{"rfilename": file, "size": len(content)} for file, content in files.items()]
    return {"id": name.removeprefix("datasets/"), "sha": COMMIT, "siblings": siblings}
