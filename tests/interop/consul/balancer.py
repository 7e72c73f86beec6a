"""A balancer: each request goes to the next of several nodes, on a connection of its own."""

import http.client
import http.server
import itertools
import socketserver
import threading


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 256


def start(nodes):
    """Serves on a free port of loopback; returns its address."""
    turn = itertools.cycle(nodes)
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self):
            with lock:
                node = next(turn)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
            to = http.client.HTTPConnection(node, timeout=90)
            # Headers as they came: http.client would add a length to an empty PUT.
            to.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                to.putheader(name, value)
            to.endheaders(body or None)
            answer = to.getresponse()
            data = answer.read()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "keep-alive"):
                    self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)
            to.close()

        do_GET = do_PUT = do_DELETE = do_HEAD = forward

        def log_message(self, *_):
            pass

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return "127.0.0.1:%d" % server.server_port
