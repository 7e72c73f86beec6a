"""A proxy that has a node below a path: passes on what comes there, as it comes."""

import http.client
import http.server
import threading

# Headers of one connection, or made anew for the next.
OWN = {"connection", "keep-alive", "transfer-encoding", "host", "content-length", "date"}


class Passing(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    node = prefix = ""

    def log_message(self, *_):
        pass

    def pass_on(self):
        if not self.path.startswith(f"{self.prefix}/"):
            self.send_error(404)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in OWN}
        if self.command in ("PUT", "POST"):
            headers["Content-Length"] = str(len(body))
        node = http.client.HTTPConnection(self.node, timeout=120)
        node.request(self.command, self.path.removeprefix(self.prefix), body or None, headers)
        answer = node.getresponse()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in OWN:
                self.send_header(name, value)
        length = answer.getheader("Content-Length")
        if length is not None:
            self.send_header("Content-Length", length)
        elif answer.status not in (204, 304):
            self.send_header("Connection", "close")
        self.end_headers()
        try:
            while part := answer.read1(65536):
                self.wfile.write(part)
                self.wfile.flush()
        except OSError:
            # The browser has gone, and so does the way to the node.
            self.close_connection = True
        node.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_OPTIONS = pass_on


def serve(node, prefix):
    """Has the node below the path; returns where that is."""
    passing = type("Passing", (Passing,), {"node": node, "prefix": prefix})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), passing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}{prefix}"
