"""A relay between a client and the server, for what goes wrong between them."""

import http.client
import http.server
import threading
import urllib.parse

PASS, LOSE, REFUSE = "pass", "lose", "refuse"


class Relay:
    """Does to each request what it is told, and passes on what it was told nothing about.

    `LOSE` has the server answer and keeps the answer to itself; `REFUSE` answers 503 and the server learns nothing.
    Where the server is, it asks anew for each request: while there is none, the connection breaks.
    """

    def __init__(self, upstream, *faults):
        self.faults = list(faults)
        self.passed = 0
        relay = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def relay(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = relay.faults.pop(0) if relay.faults else PASS
                if fault == REFUSE:
                    self.send_error(503)
                    return
                server = urllib.parse.urlsplit(upstream())
                connection = http.client.HTTPConnection(server.hostname, server.port, timeout=60)
                try:
                    connection.request(self.command, self.path, body, dict(self.headers))
                    answer = connection.getresponse()
                    content = answer.read()
                except (OSError, http.client.HTTPException):
                    self.close_connection = True
                    return
                finally:
                    connection.close()
                relay.passed += 1
                if fault == LOSE:
                    self.close_connection = True
                    return
                self.send_response_only(answer.status)
                for name, value in answer.getheaders():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = relay

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
