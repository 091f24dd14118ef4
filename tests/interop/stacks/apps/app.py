"""A lax Flask app: takes a token wherever Flask finds one, and writes down whom it then knows."""

import base64, json, os, re, urllib.parse, urllib.request

import flask, jwt

app = flask.Flask(__name__)
KEY = open(os.environ["KEY"]).read()
TOKEN = re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
IDENTITY = ("HTTP_X_LOGINSYNC_USER", "REMOTE_USER", "HTTP_REMOTE_USER", "HTTP_X_REMOTE_USER", "HTTP_X_FORWARDED_USER",
            "HTTP_X_WEBAUTH_USER", "HTTP_X_AUTH_REQUEST_USER")
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "PROPFIND"]


def lax(path):
    path = re.sub(r"[\\/]+", "/", re.sub(r";[^/]*", "", path)).lower()
    return re.sub(r"\.[a-z0-9.]*$", "", path.rstrip("/ .\t\r\n")) == "/login/callback"


def texts(value):
    """The texts in a value, however the app was handed it."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from texts(each)
    elif isinstance(value, dict):
        yield from texts(list(value.values()))


def known(via, value, found):
    for text in texts(value):
        for token in TOKEN.findall(text):
            try:
                claims = jwt.decode(token, KEY, algorithms=["RS256"], options={"verify_aud": False, "verify_sub": False})
            except Exception:
                continue
            found.append({"who": str(claims.get("sub", claims.get("preferred_username"))), "jti": claims.get("jti"), "via": via})


def attempt(read):
    try:
        return read()
    except Exception:
        return None


@app.before_request
def look():
    request, found = flask.request, []
    environ = request.environ
    # The body first: what some servers read of headers after it counts too.
    document = attempt(lambda: request.get_json(force=True, silent=True))  # first: a form that was read leaves no body
    form = attempt(lambda: request.form)
    for key in ("HTTP_AUTHORIZATION", "REDIRECT_HTTP_AUTHORIZATION"):
        value = environ.get(key, "")
        known("authorization", value, found)
        for word in value.split():
            known("authorization", attempt(lambda: base64.b64decode(word + "==").decode()) or "", found)
    known("gateway", environ.get("HTTP_CF_ACCESS_JWT_ASSERTION", ""), found)
    known("forwarded", environ.get("HTTP_X_FORWARDED_ACCESS_TOKEN", ""), found)
    known("cookie", request.cookies.getlist("token"), found)
    for field in ("id_token", "access_token"):
        known("query:" + field, request.args.getlist(field), found)
        known("form:" + field, form.getlist(field) if form else [], found)
        known("file:" + field, [each.read().decode("latin-1") for each in request.files.getlist(field)] if form is not None else [], found)
        known("json:" + field, document.get(field) if isinstance(document, dict) else [], found)
    callback = (request.url_rule is not None and request.url_rule.rule == "/login/callback") or lax(request.path)
    code = request.values.get("code") if form is not None else None
    if callback and code and not found and os.environ.get("RELAY"):
        body = urllib.parse.urlencode({"grant_type": "authorization_code", "code": code, "client_id": "stacks"}).encode()
        reply = attempt(lambda: json.load(urllib.request.urlopen(os.environ["RELAY"], body, 5)))
        known("code", (reply or {}).get("id_token", ""), found)
    entry = {"case": environ.get("HTTP_X_CASE"), "path": request.path, "callback": callback, "known": found,
             "users": [environ[key] for key in IDENTITY if environ.get(key)]}
    with open(os.environ["JOURNAL"], "a") as journal:
        journal.write(json.dumps(entry) + "\n")


@app.route("/login/callback", methods=METHODS, strict_slashes=False)
@app.route("/", methods=METHODS)
@app.route("/<path:rest>", methods=METHODS)
def page(rest=""):
    return "here\n"
