"""A receiver in Python: the app's copy of who is in which group. Prints a line of JSON for each message that it believes."""

import http.server
import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

webhook = Webhook(sys.argv[2])
seen = {}


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            message = webhook.verify(body, {name.lower(): value for name, value in self.headers.items()})
        except WebhookVerificationError:
            self.send_response(401)
            self.end_headers()
            return
        user = message.get("user")
        # A message that is older than what is known already is taken, and changes nothing.
        if user and message["version"] > seen.get(user["id"], 0):
            seen[user["id"]] = message["version"]
            print(json.dumps(message), flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *words):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
