"""OctoPrint's own groups follow: each signed message sets the groups of one user by OctoPrint's API."""

import http.server
import json
import os
import secrets
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

OCTOPRINT, KEY = os.environ["OCTOPRINT_URL"], os.environ["OCTOPRINT_API_KEY"]
KEY_HOLDER = os.environ["OCTOPRINT_KEY_HOLDER"]  # the account of the key, which no message may touch
KEPT = Path(os.environ["VERSIONS_FILE"])  # the highest version of each user
webhook = Webhook(os.environ["WEBHOOK_SECRET"])
versions = json.loads(KEPT.read_text()) if KEPT.exists() else {}
alone = threading.Lock()


def octoprint(method, path, body):
    headers = {"X-Api-Key": KEY, "Content-Type": "application/json"}
    request = urllib.request.Request(OCTOPRINT + path, json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=5):
        pass


def follow(message):
    user, data = message.get("user"), message["data"]
    if user is None:  # a ping, or an event that is not state
        return 204
    number, name = str(user["id"]), user["subject"]
    if message["version"] <= versions.get(number, 0):
        return 204
    if name == KEY_HOLDER or data.get("truncated"):
        return 422
    after = data.get("after") or {"groups": [], "enabled": False}  # none: the user was erased
    state = {"groups": after["groups"], "active": after["enabled"]}
    try:
        octoprint("PUT", "/api/access/users/" + urllib.parse.quote(name, safe=""), state)
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        if message["type"] != "user.erased":
            octoprint("POST", "/api/access/users", {"name": name, "password": secrets.token_urlsafe(32), **state})
    versions[number] = message["version"]
    KEPT.with_suffix(".new").write_text(json.dumps(versions))
    KEPT.with_suffix(".new").replace(KEPT)
    return 204


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(min(int(self.headers.get("content-length", 0)), 20_000))
        try:
            message = webhook.verify(body, {key.lower(): value for key, value in self.headers.items()})
            with alone:
                status = follow(message)
        except WebhookVerificationError:
            status = 401
        except OSError:  # OctoPrint is away, or refuses: loginsync tries again
            status = 503
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *words):
        pass


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Receiver).serve_forever()
