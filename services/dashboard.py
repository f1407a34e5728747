#!/usr/bin/env python3
"""One dashboard of the bundled table: an HTTP server on 127.0.0.1 that shows who it is.

    GET /        a page: id, description, uptime
    GET /health  {"status": "ok", ...}

SIGTERM or Ctrl-C: takes no more requests, finishes those under way, exits 0.
"""

import argparse
import html
import json
import os
import signal
import socketserver
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
  :root {{ color-scheme: light dark; }}
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 34rem; margin: 12vh auto; padding: 0 1.5rem; }}
  h1 {{ font-size: 1.6rem; margin: 0; }}
  #state {{ color: #2a9d4a; }}
  #state.down {{ color: #d33; }}
  dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .4rem 1.5rem; }}
  dt {{ opacity: .65; }}
  dd {{ margin: 0; font-variant-numeric: tabular-nums; }}
</style>
<h1>{title}</h1>
<p id="state">running</p>
<dl>
  <dt>Service</dt><dd>{service}</dd>
  <dt>Port</dt><dd>{port}</dd>
  <dt>PID</dt><dd>{pid}</dd>
  <dt>Started</dt><dd>{started}</dd>
  <dt>Uptime</dt><dd id="uptime">{uptime}</dd>
</dl>
<script>
  const state = document.getElementById("state");
  setInterval(async () => {{
    try {{
      const health = await (await fetch("/health")).json();
      document.getElementById("uptime").textContent = health.uptime;
      state.textContent = "running";
      state.className = "";
    }} catch {{
      state.textContent = "not reachable";
      state.className = "down";
    }}
  }}, 2000);
</script>
</html>
"""


def in_words(seconds):
    """3725 -> '1h 2m 5s'."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s")]
    while len(parts) > 1 and parts[0][0] == 0:
        parts.pop(0)
    return " ".join(f"{number}{unit}" for number, unit in parts)


class Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close() waits for the requests under way

    def __init__(self, port, service, title):
        self.service = service
        self.title = title
        self.started = time.time()
        self.clock = time.monotonic()
        super().__init__(("127.0.0.1", port), Handler)

    def server_bind(self):
        # HTTPServer would ask the name service who 127.0.0.1 is, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def uptime(self):
        return time.monotonic() - self.clock


class Handler(BaseHTTPRequestHandler):
    timeout = 3  # a client that connects and says nothing must not delay the end
    server_version = "dashboard"

    def do_GET(self):
        path = self.path.split("?", 1)[0]
        if path == "/":
            self.answer(200, "text/html; charset=utf-8", self.page())
        elif path == "/health":
            self.answer(200, "application/json", self.health())
        elif path == "/favicon.ico":
            self.answer(204, "image/x-icon", "")
        else:
            self.answer(404, "text/plain; charset=utf-8", "Not found\n")

    do_HEAD = do_GET

    def page(self):
        server = self.server
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(server.started))
        return PAGE.format(
            title=html.escape(server.title),
            service=html.escape(server.service),
            port=server.server_port,
            pid=os.getpid(),
            started=started,
            uptime=in_words(server.uptime()),
        )

    def health(self):
        uptime = self.server.uptime()
        answer = {
            "status": "ok",
            "service": self.server.service,
            "uptime": in_words(uptime),
            "uptime_s": round(uptime, 3),
        }
        return json.dumps(answer) + "\n"

    def answer(self, status, content_type, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_request(self, code="-", size="-"):
        if self.path.split("?", 1)[0] != "/health":
            super().log_request(code, size)


class Stop(BaseException):
    """Raised by the signal handler; no BaseServer method swallows it."""


def stop(_signal, _frame):
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # the end is under way already
    raise Stop


def main():
    parser = argparse.ArgumentParser(description="An HTTP dashboard on 127.0.0.1.")
    parser.add_argument("title")
    parser.add_argument("--port", type=int, default=os.environ.get("PORT"), help="default: $PORT")
    parser.add_argument("--service", default=os.environ.get("PIDCTL_SERVICE"), help="default: $PIDCTL_SERVICE")
    options = parser.parse_args()
    if options.port is None:
        parser.error("no port: give --port or set PORT")

    try:
        server = Server(options.port, options.service or f"dashboard_{options.port}", options.title)
    except OSError as error:
        sys.exit(f"cannot listen on 127.0.0.1:{options.port}: {error.strerror}")
    try:
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        print(f"{server.title}: http://127.0.0.1:{server.server_port}/", flush=True)
        server.serve_forever(poll_interval=None)  # woken by requests and signals, never by a clock
    except Stop:
        pass
    server.server_close()
    print(f"{server.title}: stopped after {in_words(server.uptime())}", flush=True)


if __name__ == "__main__":
    main()
