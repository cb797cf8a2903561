"""Starts the real binary on free ports and a data directory of its own.

The models are imported once into a template directory (CONCLAVE_TEST_CACHE,
default ~/.cache/conclave/test-data) and copied for each test.
"""
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("CONCLAVE_BINARY",
                                     ROOT / "build/release/conclave"))
MODELS = pathlib.Path(os.environ.get(
    "CONCLAVE_MODELS", pathlib.Path.home() / ".cache/conclave/models"))
CACHE = pathlib.Path(os.environ.get(
    "CONCLAVE_TEST_CACHE", pathlib.Path.home() / ".cache/conclave/test-data"))
SAMPLES = ROOT / "deploy/quickstart"

MODEL_FILES = {
    "minilm": MODELS / "all-MiniLM-L6-v2",
    "smollm2": MODELS / "SmolLM2-135M-Instruct.Q4_1.gguf",
    "qwen-coder": MODELS / "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf",
}


def conclave(*arguments, check=True, data_dir=None, server=None, timeout=300,
             stdin=None, **how):
    """Runs a command; returns CompletedProcess with text output."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("CONCLAVE_")}
    # With no server named, an address where nobody answers: never somebody
    # else's service.
    env["CONCLAVE_SERVER"] = server or "127.0.0.1:1"
    if data_dir:
        env["CONCLAVE_DATA_DIR"] = str(data_dir)
    result = subprocess.run([str(BINARY), *map(str, arguments)], env=env,
                            input=stdin, capture_output=True, text=True,
                            timeout=timeout, **how)
    if check and result.returncode != 0:
        raise AssertionError(f"conclave {' '.join(map(str, arguments))} -> "
                             f"{result.returncode}\n{result.stdout}{result.stderr}")
    return result


def template_data_dir():
    """A data directory with the three models and two experts, made once for
    each build of the binary."""
    key = hashlib.sha256(BINARY.read_bytes()).hexdigest()[:16]
    final = CACHE / key
    if final.exists():
        return final
    CACHE.mkdir(parents=True, exist_ok=True)
    for old in CACHE.iterdir():
        shutil.rmtree(old, ignore_errors=True)
    work = CACHE / f".{key}.{os.getpid()}"
    for name, path in MODEL_FILES.items():
        conclave("model", "import", path, "--name", name, data_dir=work)
    conclave("expert", "add", "chat", "--model", "smollm2", "--category",
             "chat", "--category", "general", "--samples",
             SAMPLES / "chat.jsonl", data_dir=work)
    conclave("expert", "add", "coder", "--model", "qwen-coder", "--category",
             "code", "--samples", SAMPLES / "code.jsonl", data_dir=work)
    work.rename(final)
    return final


class Service:
    """A running `conclave serve` (or `worker`)."""

    def __init__(self, data_dir, *arguments, command="serve", env=None):
        self.data_dir = pathlib.Path(data_dir)
        self.log_path = self.data_dir / f"{command}.log"
        self.log = open(self.log_path, "ab")
        start = self.log.tell()
        base = {k: v for k, v in os.environ.items()
                if not k.startswith("CONCLAVE_")}
        base.update(env or {})
        ports = (["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
                 if command == "serve" else [])
        self.process = subprocess.Popen(
            [str(BINARY), command, "--data-dir", str(self.data_dir), *ports,
             *map(str, arguments)],
            stdout=self.log, stderr=self.log, env=base,
            stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            text = self.log_path.read_bytes()[start:].decode(errors="replace")
            match = re.search(r"^ready(.*)$", text, re.M)
            if match:
                break
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError(f"{command} did not get ready:\n{text}")
            time.sleep(0.01)
        addresses = re.findall(r"[\w.]+:\d+", match.group(1).replace("http://", ""))
        self.grpc = addresses[-1]
        self.http = addresses[0]

    def request(self, method, path, body=None, headers=None, timeout=120):
        """-> (status, headers, parsed JSON or text)"""
        connection = http.client.HTTPConnection(self.http, timeout=timeout)
        try:
            data = body if isinstance(body, (bytes, str, type(None))) else json.dumps(body)
            # A server that refuses a large body answers and closes before it
            # has read it all: the answer is still there.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(
                    method, path, data,
                    {"content-type": "application/json", **(headers or {})})
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
            try:
                return response.status, dict(response.getheaders()), json.loads(text)
            except ValueError:
                return response.status, dict(response.getheaders()), text
        finally:
            connection.close()

    def chat(self, text, model="auto", max_tokens=8, **fields):
        return self.request("POST", "/v1/chat/completions", {
            "model": model, "max_tokens": max_tokens, "temperature": 0,
            "messages": [{"role": "user", "content": text}], **fields})

    def conclave(self, *arguments, **kwargs):
        return conclave(*arguments, server=self.grpc, **kwargs)

    def stop(self, how=signal.SIGTERM, timeout=60):
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(timeout)
        self.log.close()
        return code


def stream(service, text, model="auto", max_tokens=64, on_chunk=None, **fields):
    """Streams a chat answer; returns (text, chunks, error event or None)."""
    connection = http.client.HTTPConnection(service.http, timeout=120)
    connection.request("POST", "/v1/chat/completions", json.dumps({
        "model": model, "max_tokens": max_tokens, "temperature": 0,
        "stream": True, "messages": [{"role": "user", "content": text}],
        **fields}), {"content-type": "application/json"})
    response = connection.getresponse()
    answer, chunks, error = "", 0, None
    for line in response:
        if not line.startswith(b"data: ") or line.strip() == b"data: [DONE]":
            continue
        event = json.loads(line[6:])
        if "error" in event:
            error = event["error"]
            break
        chunks += 1
        for choice in event["choices"]:
            answer += choice["delta"].get("content") or ""
        if on_chunk:
            on_chunk(chunks)
    connection.close()
    return answer, chunks, error


class ServiceTest(unittest.TestCase):
    """A data directory per class, removed afterwards; `serve_arguments` are
    the class's own."""
    serve_arguments = ()

    @classmethod
    def setUpClass(cls):
        cls.temp = tempfile.mkdtemp(prefix="conclave-test-")
        cls.data_dir = pathlib.Path(cls.temp) / "data"
        shutil.copytree(template_data_dir(), cls.data_dir)
        cls.service = Service(cls.data_dir, *cls.serve_arguments)

    @classmethod
    def tearDownClass(cls):
        with contextlib.suppress(Exception):
            cls.service.stop()
        shutil.rmtree(cls.temp, ignore_errors=True)
