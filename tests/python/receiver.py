"""A receiver of webhooks."""

import http.client
import http.server
import queue
import threading
from typing import NamedTuple


class Delivery(NamedTuple):
    headers: http.client.HTTPMessage
    body: bytes


class Receiver:
    """Keeps what it is sent, and answers with these statuses in turn and then with 200."""

    def __init__(self, *statuses):
        self.statuses = list(statuses)
        self.deliveries = queue.Queue()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.deliveries.put(Delivery(self.headers, body))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks"

    def next(self):
        """What it is sent next; an error if nothing comes."""
        return self.deliveries.get(timeout=60)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
