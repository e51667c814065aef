"""A small real model server: what `serve` does, as far as the session can see it.

The model's `behaviour.json` decides how it behaves: slow start, refusal, sudden death, slow drain.
"""

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODEL = Path(os.environ["SAGEMAKER_BASE_DIR"]) / "model"
BEHAVIOUR = json.loads((MODEL / "behaviour.json").read_text())
STARTED = time.monotonic()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        healthy = time.monotonic() - STARTED >= BEHAVIOUR.get("start_seconds", 0)
        if self.path == "/execution-parameters" and "execution_parameters" in BEHAVIOUR:
            self.answer(200, json.dumps(BEHAVIOUR["execution_parameters"]).encode())
        elif self.path == "/ping":
            self.answer(200 if healthy and not BEHAVIOUR.get("sick") else 503, b"")
        else:
            self.answer(404, b"")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if body == b"die":
            print("FATAL: the model fell over", file=sys.stderr, flush=True)
            os._exit(9)
        if body == b"bad":
            self.answer(400, b'{"error": {"code": "BadInput", "message": "no such thing"}}')
        elif body.startswith(b"sleep "):
            _, seconds, *mark = body.decode().split(maxsplit=2)
            for path in mark:
                Path(path).touch()  # the request is in the server's hands
            time.sleep(float(seconds))
            self.answer(200, b"slept")
        elif body == b"stream":
            self.stream([b"one ", b"two ", b"three"])
        elif "lines" in BEHAVIOUR and "echo" not in BEHAVIOUR:
            self.answer(200, b"".join(line.upper() + b"\n" for line in body.splitlines()))
        else:
            self.answer(200, json.dumps(self.seen(body)).encode())

    def seen(self, body):
        return {
            "body": body.decode(),
            "headers": {key.lower(): value for key, value in self.headers.items()},
            "environment": dict(os.environ),
            "version": BEHAVIOUR.get("version"),
            "pid": os.getpid(),
        }

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", self.headers.get("Accept") or "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Amzn-SageMaker-Custom-Attributes", "from=server")
        self.end_headers()
        self.wfile.write(body)

    def stream(self, parts):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in parts:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.flush()
            time.sleep(0.1)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        # In one piece: threads answer at the same time.
        sys.stdout.write(f"served {self.path}\n")
        sys.stdout.flush()


def main():
    if "exit_code" in BEHAVIOUR:
        print("loading the model", flush=True)
        print("ValueError: config.json has no model_type", file=sys.stderr, flush=True)
        sys.exit(BEHAVIOUR["exit_code"])
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler)
    server.daemon_threads = False

    def drain(*_):
        print("draining", flush=True)
        if not BEHAVIOUR.get("deaf"):
            threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, drain)
    server.serve_forever(poll_interval=0.02)
    server.server_close()


main()
