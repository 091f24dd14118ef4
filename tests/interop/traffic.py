"""An app for mixed traffic: it says what it got, of whom, and gives what it is asked for."""

import hashlib
import json
import time

from flask import Flask, Response, request

app = Flask(__name__)


def told(**more):
    return {"id": request.headers.get("X-Id"), "user": request.headers.get("X-Loginsync-User"), **more}


@app.route("/page")
def page():
    return told()


@app.route("/upload", methods=["POST", "PUT"])
def upload():
    digest, length = hashlib.sha256(), 0
    while piece := request.stream.read(65536):
        digest.update(piece)
        length += len(piece)
    return told(sha256=digest.hexdigest(), length=length)


@app.route("/download")
def download():
    piece, length = request.args["seed"].encode() * 64, int(request.args["length"])

    def pieces():
        left = length
        while left > 0:
            yield piece[:left]
            left -= len(piece)

    return Response(pieces(), headers={"X-Told": json.dumps(told())}, content_type="application/octet-stream")


@app.route("/events")
def events():
    own, count, pause = told(), int(request.args["count"]), float(request.args["pause"])

    def each():
        for at in range(count):
            time.sleep(pause)
            yield f"data: {json.dumps({**own, 'at': at})}\n\n"

    return Response(each(), content_type="text/event-stream")
