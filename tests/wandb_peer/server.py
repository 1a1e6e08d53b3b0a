"""The HTTP side: who may ask, what goes wrong on purpose, and where a request belongs."""

import base64
import gzip
import json
import re
import socket
import sys
import threading
import urllib.parse
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn

from wandb_peer.faults import Faults
from wandb_peer.operations import OPERATIONS
from wandb_peer.store import RefusedError, Store
from wandb_peer.stream import take_stream

# How much of a request's body a fault's pattern can see.
BODY_START = 2000


class Server(ThreadingHTTPServer):
    """Listens on loopback until it is closed, and then leaves no thread and no socket behind."""

    daemon_threads = False  # so that closing waits for them
    request_queue_size = 128

    def __init__(
        self, port: int, key: str, store: Store, faults: Faults, operations: Counter[str], unknown: list[str]
    ) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.key, self.store, self.faults = key, store, faults
        self.operations, self.unknown = operations, unknown
        self.closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="wandb peer", daemon=True)
        self._thread.start()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that was killed, or did not want to wait, is no fault of the peer.
        if not isinstance(sys.exception(), ConnectionError):
            self.unknown.append(f"the peer failed: {sys.exception()!r}")
            super().handle_error(request, client_address)

    def close(self) -> None:
        """Stop listening, break off every connection, and wait for the threads."""
        self.closing.set()
        self.shutdown()
        self._thread.join()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"  # connections are kept, as W&B's are
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self._body()
        path = urllib.parse.unquote(self.path.partition("?")[0])
        start = body[:BODY_START].decode(errors="replace")
        if fault := self.server.faults.take(f"{path} {start}"):
            if fault.drop:
                self.close_connection = True
                return
            if fault.status:
                self._send({"error": "on purpose", "errors": [{"message": "on purpose"}]}, fault.status)
                return
            if self.server.closing.wait(fault.seconds):
                self.close_connection = True
                return
        with self.server.store.lock:
            answer, status = self._reply(path, body)
        self._send(answer, status)

    def _reply(self, path: str, body: bytes) -> tuple[Any, int]:
        """Return the answer to a request and its HTTP status, whatever happens."""
        try:
            return self._route(path, body)
        except RefusedError as error:
            return {"errors": [{"message": str(error)}]}, error.status
        except Exception as error:
            where = ": ".join([f"{self.command} {path}", *getattr(error, "__notes__", [])])
            self.server.unknown.append(f"{where}: {error!r}")
            # Not a status that clients try again.
            return {"errors": [{"message": f"the peer failed: {error!r}"}]}, 400

    def _route(self, path: str, body: bytes) -> tuple[Any, int]:
        if self.command in ("PUT", "GET"):
            # The addresses of files carry their own permission, as those of W&B's storage do.
            return self._file(path, body)
        if path.startswith("/sdk/"):  # reports on the client itself
            return {}, 200
        if not self._has_key():
            return {"error": "the API key is not accepted", "errors": [{"message": "unauthorized"}]}, 401
        if path == "/graphql":
            return self._graphql(json.loads(body))
        if match := re.fullmatch("/files/([^/]+)/([^/]+)/([^/]+)/file_stream", path):
            return take_stream(self.server.store, match[1], match[2], match[3], json.loads(body))
        self.server.unknown.append(f"{self.command} {path}")
        return {"error": f"the peer does not know {path}"}, 404

    def _graphql(self, request: dict[str, Any]) -> tuple[Any, int]:
        # The public API leaves operationName empty, so the name is read from the text.
        match = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])
        name = match[1] if match else request["query"][:80]
        self.server.operations[name] += 1
        if name not in OPERATIONS:
            self.server.unknown.append(name)
            return {"errors": [{"message": f"the peer does not know the operation {name}"}]}, 200
        try:
            return {"data": OPERATIONS[name](self.server.store, request.get("variables") or {}, request["query"])}, 200
        except Exception as error:
            error.add_note(name)
            raise

    def _file(self, path: str, body: bytes) -> tuple[Any, int]:
        files, name = self._place(path)
        if files is None:
            return {"error": f"nothing is kept at {path}"}, 404
        if self.command == "PUT":
            files[name] = body
            return b"", 200
        return (files[name], 200) if name in files else (b"", 404)

    def _place(self, path: str) -> tuple[dict[str, bytes] | None, str]:
        """Return the files of the run or artifact that a path belongs to, and the file's name."""
        store = self.server.store
        if match := re.fullmatch("/files/([^/]+)/([^/]+)/([^/]+)/(.+)", path):
            run = store.run(*match.groups()[:3])
            return (run.files if run else None), match[4]
        if match := re.fullmatch("/(artifact_files|artifact_manifests)/([^/]+)/(.+)", path):
            artifact = store.artifact(match[2])
            return (artifact.files if match[1] == "artifact_files" else artifact.manifests), match[3]
        return None, ""

    def _has_key(self) -> bool:
        wanted = base64.b64encode(f"api:{self.server.key}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {wanted}"

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(iter(self._chunk, b""))
        else:
            body = self._read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _chunk(self) -> bytes:
        size = self.rfile.readline() or self._gone()
        chunk = self._read(int(size, 16))
        self.rfile.readline()
        return chunk

    def _read(self, size: int) -> bytes:
        body = self.rfile.read(size)
        return body if len(body) == size else self._gone()

    def _gone(self) -> NoReturn:
        # Half a file must not be kept as if it were the whole one.
        raise ConnectionResetError("the client went away in the middle of a request")

    def _send(self, answer: Any, status: int) -> None:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream" if body is answer else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
