"""A gRPC server and the calls that a client makes of it, both of grpcio, with bytes for messages.

usage: calls.py serve ADDRESS [KEY CERTIFICATE] | calls.py call ADDRESS [CERTIFICATE]
"""

import base64
import json
import queue
import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc

ROLE, ADDRESS, *FILES = sys.argv[1:]
PEM = [Path(file).read_bytes() for file in FILES]    # with TLS, and HTTP/2 by ALPN, where there are any
LARGE = 3_000_000
# The name that a client asks for is the app's, whatever address it connects to.
OPTIONS = [("grpc.default_authority", "app.example"), ("grpc.max_receive_message_length", -1)]


def say(request, context):
    sent = dict(context.invocation_metadata())
    context.send_initial_metadata([("heard", sent.get("question", "nothing"))])
    context.set_trailing_metadata([("forged", sent.get("x-loginsync-user", "no")), ("bytes-bin", bytes(range(256)))])
    return request[::-1]


def count(request, context):
    for number in range(int(request)):
        yield str(number).encode()


def add(requests, context):
    return str(sum(int(request) for request in requests)).encode()


def talk(requests, context):
    for request in requests:
        yield request.upper()


def refuse(request, context):
    context.set_trailing_metadata([("why", "it is wrong")])
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not this: ä")


def wait(request, context):
    threading.Event().wait(30)
    return b""


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=64), options=OPTIONS)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Talk", {
        "Say": grpc.unary_unary_rpc_method_handler(say),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Add": grpc.stream_unary_rpc_method_handler(add),
        "Talk": grpc.stream_stream_rpc_method_handler(talk),
        "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
        "Wait": grpc.unary_unary_rpc_method_handler(wait),
    })])
    if PEM:
        server.add_secure_port(ADDRESS, grpc.ssl_server_credentials([tuple(PEM)]))
    else:
        server.add_insecure_port(ADDRESS)
    server.start()
    server.wait_for_termination()


def expect(found, expected):
    if found != expected:
        raise AssertionError(f"expected {expected!r}, found {found!r}")


def unary(channel):
    call = channel.unary_unary("/test.Talk/Say")
    metadata = [("question", "what"), ("x-loginsync-user", "mallory")]
    answer, done = call.with_call(b"abc", metadata=metadata, timeout=20)
    trailing = dict(done.trailing_metadata())
    expect((answer, dict(done.initial_metadata())["heard"], done.code()), (b"cba", "what", grpc.StatusCode.OK))
    expect((trailing["forged"], trailing["bytes-bin"]), ("no", bytes(range(256))))


def large(channel):
    message = bytes(range(251)) * (LARGE // 251)
    expect(channel.unary_unary("/test.Talk/Say")(message, timeout=60), message[::-1])


def server_streams(channel):
    expect([int(one) for one in channel.unary_stream("/test.Talk/Count")(b"1000", timeout=30)], list(range(1000)))


def client_streams(channel):
    # As many small pieces as may wait unread on one connection (docs/deploy.md), however slow this machine is.
    expect(channel.stream_unary("/test.Talk/Add")((str(number).encode() for number in range(500)), timeout=30), b"124750")


def both_stream(channel):
    questions = queue.Queue()
    answers = channel.stream_stream("/test.Talk/Talk")(iter(questions.get, None), timeout=30)
    for word in (b"one", b"two", b"three"):
        questions.put(word)
        expect(next(answers), word.upper())    # before the next question is sent
    questions.put(None)
    expect(list(answers), [])


def refused_by_the_server(channel):
    try:
        channel.unary_unary("/test.Talk/Refuse")(b"", timeout=20)
    except grpc.RpcError as error:
        expect((error.code(), error.details()), (grpc.StatusCode.INVALID_ARGUMENT, "not this: ä"))
        expect(dict(error.trailing_metadata())["why"], "it is wrong")
    else:
        raise AssertionError("it passed")


def refused_by_us(channel):
    parts = ({"alg": "RS256", "kid": "x"}, {"iss": "https://idp.example/", "aud": "the-app"}, "no signature")
    token = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    try:
        channel.unary_unary("/test.Talk/Say")(b"", metadata=[("authorization", f"Bearer {token}")], timeout=20)
    except grpc.RpcError as error:
        expect(error.code(), grpc.StatusCode.UNAUTHENTICATED)
    else:
        raise AssertionError("it passed")


def deadline(channel):
    try:
        channel.unary_unary("/test.Talk/Wait")(b"", timeout=1)
    except grpc.RpcError as error:
        expect(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
    else:
        raise AssertionError("it passed")


def many(channel):
    call = channel.unary_unary("/test.Talk/Say")
    under_way = [call.future(str(number).encode(), timeout=60) for number in range(500)]
    for number, one in enumerate(under_way):
        expect(one.result(), str(number).encode()[::-1])


def calls():
    checks = {
        "a call with metadata, initial and trailing": unary,
        "a message of three megabytes, both ways": large,
        "the server streams": server_streams,
        "the client streams": client_streams,
        "both stream, by turns": both_stream,
        "a refusal of the server's, with its details": refused_by_the_server,
        "a refusal of ours is UNAUTHENTICATED": refused_by_us,
        "a deadline": deadline,
        "five hundred calls at once": many,
        "a call after all that": unary,
    }
    if PEM:
        opened = grpc.secure_channel(ADDRESS, grpc.ssl_channel_credentials(PEM[0]), options=OPTIONS)
    else:
        opened = grpc.insecure_channel(ADDRESS, options=OPTIONS)
    with opened as channel:
        grpc.channel_ready_future(channel).result(timeout=30)
        for name, check in checks.items():
            try:
                check(channel)
                print(f"ok      {name}", flush=True)
            except Exception as error:
                print(f"FAILED  {name}: {error!r}", flush=True)


{"serve": serve, "call": calls}[ROLE]()
