"""Canaille with users and groups in memory: usage canaille.py PORT TOKEN."""

import datetime
import sys

from canaille import create_app
from canaille.app import models
from canaille.backends import Backend

port, token = int(sys.argv[1]), sys.argv[2]
app = create_app(
    {
        "SECRET_KEY": "for-tests-alone",
        "SERVER_NAME": f"127.0.0.1:{port}",
        "PREFERRED_URL_SCHEME": "http",
        "CANAILLE": {"DATABASE": "memory", "ENABLE_REGISTRATION": False, "SMTP": None},
        "CANAILLE_SCIM": {"ENABLE_SERVER": True},
    }
)
with app.app_context():
    now = datetime.datetime.now(datetime.timezone.utc)
    client = models.Client(client_id="loginsync", client_name="loginsync", client_id_issued_at=now)
    Backend.instance.save(client)
    Backend.instance.save(
        models.Token(token_id="scim", access_token=token, client=client, subject=None, type="access_token", scope=[],
                     issue_date=now, lifetime=86400)
    )
app.run(host="127.0.0.1", port=port, threaded=False)
