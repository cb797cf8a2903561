"""What bad input gets: the table of the main path's issue, through the real
binary."""
import pathlib
import resource
import shutil
import socket
import subprocess
import tempfile
import unittest

from harness import BINARY, MODEL_FILES, Service, ServiceTest, conclave


class HttpTest(ServiceTest):
    def expect_error(self, reply, status, code=None, param=None):
        got, headers, body = reply
        self.assertEqual(got, status, body)
        self.assertIsInstance(body, dict, body)
        error = body["error"]
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        if code:
            self.assertEqual(error["code"], code, error)
        if param:
            self.assertEqual(error["param"], param, error)
        return error

    def test_body_not_json(self):
        for body in ("{", "nonsense", "", "[]", '"x"', "\x00", '{"a":' * 5000):
            self.expect_error(
                self.service.request("POST", "/v1/chat/completions", body), 400)

    def test_body_too_large(self):
        self.expect_error(self.service.request(
            "POST", "/v1/chat/completions", b'"' + b"x" * (33 << 20) + b'"'),
            413)

    def test_fields_are_named(self):
        for field, value in (("temperature", "hot"), ("temperature", 9),
                             ("top_p", 0), ("n", 0), ("n", 1000),
                             ("max_tokens", -5), ("max_tokens", 1.5),
                             ("messages", []), ("messages", "hi"),
                             ("stop", 7), ("seed", "x"), ("stream", "yes"),
                             ("presence_penalty", 99), ("logit_bias", [1])):
            reply = self.service.chat("hi", **{field: value})
            error = self.expect_error(reply, 400)
            self.assertIn(field, str(error["param"]) + error["message"])

    def test_unknown_model(self):
        error = self.expect_error(self.service.chat("hi", model="codr"), 404,
                                  code="model_not_found")
        self.assertIn("coder", error["message"])

    def test_prompt_longer_than_context(self):
        error = self.expect_error(
            self.service.chat("word " * 60000, model="chat"), 400,
            code="context_length_exceeded")
        self.assertRegex(error["message"], r"\d+.*\d+")

    def test_unknown_route_and_method(self):
        self.expect_error(self.service.request("GET", "/v1/nothing"), 404)
        status, _, _ = self.service.request("GET", "/v1/chat/completions")
        self.assertEqual(status, 405)

    def test_the_process_stays(self):
        status, _, body = self.service.chat("hello", model="chat")
        self.assertEqual(status, 200, body)


class EmptyTest(unittest.TestCase):
    def test_nobody_to_answer_says_what_to_add(self):
        temp = pathlib.Path(tempfile.mkdtemp(prefix="conclave-test-"))
        self.addCleanup(shutil.rmtree, temp, ignore_errors=True)
        service = Service(temp)
        self.addCleanup(service.stop)
        chat = {"model": "auto",
                "messages": [{"role": "user", "content": "hi"}]}
        for path, body, what in (
                ("/v1/chat/completions", chat, "conclave expert add"),
                ("/v1/chat/completions", {**chat, "stream": True},
                 "conclave expert add"),
                ("/v1/completions", {"model": "auto", "prompt": "hi"},
                 "conclave expert add"),
                ("/v1/route", chat, "conclave expert add"),
                ("/v1/embeddings", {"model": "auto", "input": "hi"},
                 "conclave model import")):
            status, _, reply = service.request("POST", path, body)
            self.assertEqual(status, 404, (path, reply))
            self.assertEqual(reply["error"]["code"], "model_not_found", path)
            self.assertIn(what, reply["error"]["message"])


class RegistryTest(ServiceTest):
    def test_two_of_one_name(self):
        result = self.service.conclave("expert", "add", "chat", "--model",
                                       "smollm2", check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("ALREADY_EXISTS", result.stderr)

    def test_missing_model(self):
        result = self.service.conclave("expert", "add", "x", "--model",
                                       "smollm3", check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("NOT_FOUND", result.stderr)
        self.assertIn("smollm2", result.stderr)

    def test_draining_the_last_general(self):
        result = self.service.conclave("expert", "drain", "chat", check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("FAILED_PRECONDITION", result.stderr)
        self.assertIn("general", result.stderr)

    def test_bad_name(self):
        result = self.service.conclave("expert", "add", "../x", "--model",
                                       "smollm2", check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("INVALID_ARGUMENT", result.stderr)


class ImportTest(unittest.TestCase):
    def setUp(self):
        self.temp = pathlib.Path(tempfile.mkdtemp(prefix="conclave-test-"))
        self.addCleanup(shutil.rmtree, self.temp, ignore_errors=True)

    def refuse(self, path, *words):
        result = conclave("model", "import", path, "--name", "bad",
                          data_dir=self.temp / "data", check=False)
        self.assertEqual(result.returncode, 1, result.stdout)
        for word in words:
            self.assertIn(word, result.stderr)
        listed = conclave("model", "list", "--json",
                          data_dir=self.temp / "data")
        self.assertEqual(listed.stdout.strip(), "[]")

    def test_truncated(self):
        bad = self.temp / "cut.gguf"
        with open(MODEL_FILES["smollm2"], "rb") as source:
            bad.write_bytes(source.read(40 << 20))
        self.refuse(bad, "INVALID_ARGUMENT")

    def test_not_a_model(self):
        bad = self.temp / "bad.gguf"
        bad.write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 4096)
        self.refuse(bad, "INVALID_ARGUMENT")

    def test_unknown_architecture(self):
        data = MODEL_FILES["smollm2"].read_bytes()
        bad = self.temp / "other.gguf"
        bad.write_bytes(data.replace(b"\x05\0\0\0\0\0\0\0llama",
                                     b"\x05\0\0\0\0\0\0\0zebra", 1))
        self.refuse(bad, "zebra", "llama")

    def test_missing_file(self):
        self.refuse(self.temp / "nothing.gguf", "NOT_FOUND")


class ProcessTest(ServiceTest):
    def run_serve(self, *arguments):
        return subprocess.run([str(BINARY), "serve", *map(str, arguments)],
                              capture_output=True, text=True, timeout=60)

    def one_line(self, result, *words):
        self.assertNotEqual(result.returncode, 0)
        errors = [line for line in result.stderr.splitlines()
                  if line.startswith("error:")]
        self.assertEqual(len(errors), 1, result.stderr)
        for word in words:
            self.assertIn(word, errors[0])

    def test_port_taken(self):
        with socket.socket() as taken, tempfile.TemporaryDirectory() as temp:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            self.one_line(self.run_serve("--data-dir", temp, "--http", address,
                                         "--grpc", "127.0.0.1:0"), address,
                          "--http")
            self.one_line(self.run_serve("--data-dir", temp, "--grpc", address,
                                         "--http", "127.0.0.1:0"), address,
                          "--grpc")

    def test_data_directory_locked(self):
        self.one_line(self.run_serve("--data-dir", self.data_dir, "--http",
                                     "127.0.0.1:0", "--grpc", "127.0.0.1:0"),
                      str(self.data_dir))

    def test_data_directory_not_writable(self):
        self.one_line(self.run_serve("--data-dir", "/proc/conclave"),
                      "/proc/conclave")

    def test_disk_full_leaves_data_intact(self):
        # A small file system of its own, filled by an import.
        with tempfile.TemporaryDirectory() as temp:
            mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m",
                                      "tmpfs", temp]).returncode == 0
            if not mounted:
                self.skipTest("needs the right to mount a small tmpfs")
            try:
                result = conclave("model", "import", MODEL_FILES["smollm2"],
                                  "--name", "big", data_dir=temp, check=False)
                self.assertEqual(result.returncode, 1)
                self.assertIn("RESOURCE_EXHAUSTED", result.stderr)
                self.assertEqual(conclave("model", "list", "--json",
                                          data_dir=temp).stdout.strip(), "[]")
            finally:
                subprocess.run(["umount", temp], check=True)

    def test_a_disk_that_refuses_leaves_data_intact(self):
        # The same without the right to mount: no file may grow beyond 16 MB,
        # and SIGXFSZ stays ignored, as Python has it.
        def tight():
            resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 20, 16 << 20))

        with tempfile.TemporaryDirectory() as temp:
            result = conclave("model", "import", MODEL_FILES["smollm2"],
                              "--name", "big", data_dir=temp, check=False,
                              preexec_fn=tight, restore_signals=False)
            self.one_line(result, "segment", "File too large")
            self.assertEqual(conclave("model", "list", "--json",
                                      data_dir=temp).stdout.strip(), "[]")
            # Nothing was left of it, and there is room again.
            self.assertLess(sum(f.stat().st_size for f in
                                pathlib.Path(temp).rglob("*.sst")), 1 << 20)
            conclave("model", "import", MODEL_FILES["smollm2"], "--name",
                     "big", data_dir=temp)

    def test_negative_timeout(self):
        with tempfile.TemporaryDirectory() as temp:
            self.one_line(self.run_serve("--data-dir", temp, "--http",
                                         "127.0.0.1:0", "--grpc",
                                         "127.0.0.1:0", "--token-timeout",
                                         "-1"), "--token-timeout", "-1")

    def test_config_with_unknown_key(self):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config:
            config.write("ram-buget: 1G\n")
            config.flush()
            self.one_line(self.run_serve("--config", config.name), "ram-budget")


class DoctorTest(unittest.TestCase):
    def test_looks_and_makes_nothing(self):
        with tempfile.TemporaryDirectory() as temp:
            data = pathlib.Path(temp) / "none"
            result = conclave("doctor", data_dir=data, check=False)
            self.assertEqual(result.returncode, 1)
            self.assertIn(f"{data} is not there yet", result.stdout)
            self.assertIn("conclave model import", result.stdout)
            self.assertFalse(data.exists())
            data.mkdir()
            result = conclave("doctor", data_dir=data, check=False)
            self.assertIn("free", result.stdout)
            self.assertIn("conclave serve", result.stdout)
            self.assertEqual(list(data.iterdir()), [])


class DamageTest(ServiceTest):
    def test_a_flipped_bit_is_never_served(self):
        self.service.stop()
        # Flip one bit in the middle of the largest weight file: some unit of
        # some model is damaged now.
        files = sorted(self.data_dir.glob("weights/**/*.sst"),
                       key=lambda f: f.stat().st_size)
        with open(files[-1], "r+b") as f:
            f.seek(files[-1].stat().st_size // 2)
            byte = f.read(1)
            f.seek(-1, 1)
            f.write(bytes([byte[0] ^ 1]))
        type(self).service = Service(self.data_dir)
        replies = {name: self.service.chat("hello", model=name)
                   for name in ("chat", "coder")}
        bad = [r for r in replies.values() if r[0] != 200]
        self.assertEqual(len(bad), 1, replies)
        status, _, body = bad[0]
        self.assertEqual(status, 500)
        self.assertIn("data_loss", str(body["error"]["code"]).lower())
        self.assertRegex(body["error"]["message"], r"layer|embedding|head")


if __name__ == "__main__":
    unittest.main()
