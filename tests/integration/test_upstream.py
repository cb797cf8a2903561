"""Servers that somebody else runs, as experts: one that answers, and every way
in which one does not."""
import contextlib
import http.server
import json
import pathlib
import socket
import threading
import time
import unittest

from harness import ServiceTest, stream

LAW = ("Is this contract clause enforceable in court?",
       "What does the statute of limitations say about torts?",
       "Draft a non-disclosure agreement between two companies",
       "Can my landlord evict me without notice?",
       "Explain the doctrine of consideration in contract law",
       "What are my rights if I am sued for negligence?")
ASK = "Is a verbal contract enforceable in court?"
WORDS = ["It ", "depends ", "on ", "the ", "court."]


class Stub:
    """An OpenAI-compatible server: `behave(reply)` writes each answer."""

    def __init__(self, behave):
        self.requests = []  # (path, headers, parsed body)
        self.let_go = threading.Event()  # ends whoever waits
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self):
                with contextlib.suppress(OSError):  # the client went
                    super().handle()

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                stub.requests.append((self.path, dict(self.headers),
                                      json.loads(body)))
                behave(Reply(self, stub.let_go))

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0),
                                                      Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.let_go.set()
        self.server.shutdown()
        self.server.server_close()


class Reply:
    def __init__(self, handler, let_go):
        self.handler = handler
        self.let_go = let_go

    def begin(self, status=200, content_type="text/event-stream", **headers):
        self.handler.send_response(status)
        for name, value in {"content-type": content_type,
                            "transfer-encoding": "chunked",
                            **headers}.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()

    def write(self, text):
        data = text.encode()
        self.handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.handler.wfile.flush()

    def event(self, **fields):
        self.write(f"data: {json.dumps(fields)}\n\n")

    def words(self, words):
        for word in words:
            self.event(model="llama-70b-0613", choices=[
                {"index": 0, "delta": {"content": word},
                 "finish_reason": None}])

    def finish(self):
        self.event(model="llama-70b-0613", choices=[
            {"index": 0, "delta": {}, "finish_reason": "stop"}])
        self.event(choices=[], usage={"prompt_tokens": 11,
                                      "completion_tokens": len(WORDS),
                                      "total_tokens": 11 + len(WORDS)})
        self.write("data: [DONE]\n\n")
        self.end()

    def end(self):
        self.handler.wfile.write(b"0\r\n\r\n")

    def drop(self):
        """The connection goes, its body unfinished."""
        self.handler.close_connection = True
        self.handler.connection.shutdown(socket.SHUT_RDWR)

    def hang(self):
        self.let_go.wait(60)
        self.handler.close_connection = True

    def raw(self, data):
        self.handler.wfile.write(data)
        self.handler.close_connection = True


def answers(reply):
    reply.begin()
    reply.words(WORDS)
    reply.finish()


def silent(reply):
    reply.hang()


def silent_after_the_header(reply):
    reply.begin()
    reply.hang()


def drops_at_once(reply):
    reply.drop()


def drops_before_a_word(reply):
    reply.begin()
    reply.drop()


def drops_mid_stream(reply):
    reply.begin()
    reply.words(WORDS[:3])
    time.sleep(0.1)
    reply.drop()


def no_http(reply):
    reply.raw(b"SSH-2.0-OpenSSH_9.2p1\r\n")


def a_page(reply):
    reply.begin(content_type="text/html")
    reply.write("<html>It works!</html>")
    reply.end()


def an_error(reply):
    reply.begin(status=500, content_type="application/json")
    reply.write('{"error": {"message": "CUDA out of memory"}}')
    reply.end()


def a_redirect(reply):
    reply.begin(status=302, location="http://127.0.0.1:1/")
    reply.end()


def no_json(reply):
    reply.begin()
    reply.write("data: {nope\n\n")
    reply.end()


def no_choices(reply):
    reply.begin()
    reply.event(id="x", object="chat.completion.chunk")
    reply.end()


def an_event_without_end(reply):
    reply.begin()
    while not reply.let_go.is_set():
        reply.write("x" * 65536)


def nonsense_mid_stream(reply):
    reply.begin()
    reply.words(WORDS[:3])
    reply.write("data: \x00\x01 what?\n\n")
    reply.end()


class UpstreamTest(ServiceTest):
    # Time enough for the local model, once it is in memory.
    serve_arguments = ("--first-token-timeout", "4")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.samples = pathlib.Path(cls.temp) / "law.jsonl"
        cls.samples.write_text(
            "\n".join(json.dumps({"text": text}) for text in LAW))
        cls.service.chat("hello", model="chat", max_tokens=1)
        cls.count = 0

    @contextlib.contextmanager
    def expert(self, url):
        """A fresh name each time; gone afterwards."""
        type(self).count += 1
        name = f"gpu-box-{self.count}"
        self.service.conclave(
            "expert", "add", name, "--endpoint", url, "--remote-model",
            "llama-70b", "--category", "law", "--samples", self.samples)
        try:
            yield name
        finally:
            self.service.conclave("expert", "rm", name)

    @contextlib.contextmanager
    def stub(self, behave):
        stub = Stub(behave)
        try:
            with self.expert(stub.url) as name:
                yield stub, name
        finally:
            stub.stop()

    def check_error(self, error):
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        self.assertNotIn("127.0.0.1", error["message"])

    def check_next_answers(self, name):
        """`auto` gets its answer from general; the decision says why. Who
        names the expert is told the truth."""
        status, headers, body = self.service.chat(ASK, max_tokens=4)
        headers = {k.lower(): v for k, v in headers.items()}
        self.assertEqual(status, 200, body)
        self.assertEqual(body["model"], "chat")
        self.assertEqual(headers["x-conclave-expert"], "chat")
        self.assertTrue(body["choices"][0]["message"]["content"])
        record = self.outcome(headers["x-request-id"])
        self.assertEqual(record["expert"], name)
        self.assertEqual(record["outcome"]["expert"], "chat")
        self.assertTrue(record["outcome"]["attempts"][0].startswith(
            f"{name}: "), record["outcome"])
        status, _, body = self.service.chat(ASK, model=name)
        self.assertIn(status, (503, 504), body)
        self.check_error(body["error"])

    def outcome(self, request_id):
        patience = time.monotonic() + 5
        while True:
            status, _, record = self.service.request(
                "GET", f"/v1/decisions/{request_id}")
            if status == 200 and record["outcome"]:
                return record
            self.assertLess(time.monotonic(), patience, record)
            time.sleep(0.02)

    def test_alive(self):
        with self.stub(answers) as (stub, name):
            status, headers, body = self.service.chat(ASK, max_tokens=30)
            self.assertEqual(status, 200, body)
            (choice,) = body["choices"]
            self.assertEqual(choice["message"]["content"], "".join(WORDS))
            self.assertEqual(choice["finish_reason"], "stop")
            # Who answers is the expert, whatever the server calls its model.
            self.assertEqual(body["model"], name)
            self.assertEqual({k.lower(): v for k, v in headers.items()}
                             ["x-conclave-expert"], name)
            self.assertEqual(body["usage"]["prompt_tokens"], 11)
            self.assertEqual(body["usage"]["completion_tokens"], len(WORDS))
            answer, _, error = stream(self.service, ASK)
            self.assertIsNone(error)
            self.assertEqual(answer, "".join(WORDS))
            # Others keep what is theirs.
            _, _, decision = self.service.request("POST", "/v1/route", {
                "messages": [{"role": "user", "content":
                              "Fix this bug in my Python function"}]})
            self.assertEqual(decision["expert"], "coder")
        self.assertEqual(len(stub.requests), 2)
        path, sent, asked = stub.requests[0]
        self.assertEqual(path, "/v1/chat/completions")
        self.assertNotIn("authorization", {k.lower() for k in sent})
        self.assertEqual(asked["model"], "llama-70b")
        self.assertEqual(asked["max_tokens"], 30)
        self.assertEqual(asked["messages"][-1]["content"], ASK)

    def test_dead(self):
        with socket.socket() as nobody:  # bound, and nobody listens
            nobody.bind(("127.0.0.1", 0))
            port = nobody.getsockname()[1]
            with self.expert(f"http://127.0.0.1:{port}/v1") as name:
                self.check_next_answers(name)

    def test_slow_before_the_first_token(self):
        for behave in (silent, silent_after_the_header):
            with self.subTest(behave.__name__), \
                 self.stub(behave) as (stub, name):
                self.check_next_answers(name)
                self.assertEqual(len(stub.requests), 2)

    def test_nonsense_before_the_first_token(self):
        for behave in (drops_at_once, drops_before_a_word, no_http, a_page,
                       an_error, a_redirect, no_json, no_choices,
                       an_event_without_end):
            with self.subTest(behave.__name__), self.stub(behave) as (_, name):
                self.check_next_answers(name)

    def test_breaking_mid_stream_is_a_clean_error(self):
        for behave in (drops_mid_stream, nonsense_mid_stream):
            with self.subTest(behave.__name__), self.stub(behave):
                answer, _, error = stream(self.service, ASK)
                self.assertEqual(answer, "".join(WORDS[:3]))
                self.assertIsNotNone(error)
                self.check_error(error)
                # Nobody else finishes another's sentence.
                status, _, body = self.service.chat(ASK)
                self.assertEqual(status, 503, body)
                self.check_error(body["error"])

    def test_one_that_keeps_failing_is_left_alone_until_it_is_back(self):
        well = threading.Event()
        with self.stub(lambda reply: (answers if well.is_set() else an_error)
                       (reply)) as (stub, name):
            for _ in range(12):
                status, _, body = self.service.chat(ASK, max_tokens=1)
                self.assertEqual((status, body["model"]), (200, "chat"))
            self.assertLess(len(stub.requests), 12)
            well.set()
            patience = time.monotonic() + 40
            while self.service.chat(ASK, max_tokens=1)[2]["model"] != name:
                self.assertLess(time.monotonic(), patience)
                time.sleep(0.1)


if __name__ == "__main__":
    unittest.main()
