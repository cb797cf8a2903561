"""The service under change and under loss: experts come and go under load,
processes are killed, models switch under a small budget."""
import concurrent.futures
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest

from harness import (BINARY, Service, ServiceTest, conclave, stream,
                     template_data_dir)


class RoutingTest(ServiceTest):
    def test_code_goes_to_the_coder_and_talk_to_chat(self):
        for text, expert in (
                ("Write a Python function that adds two numbers", "coder"),
                ("Fix this bug: IndexError: list index out of range", "coder"),
                ("Good morning! How are you?", "chat"),
                ("Tell me a story about a friendly cat", "chat")):
            status, headers, body = self.service.chat(text)
            self.assertEqual(status, 200, body)
            headers = {k.lower(): v for k, v in headers.items()}
            self.assertEqual(headers["x-conclave-expert"], expert, text)
            self.assertEqual(body["model"], expert)
            self.assertIn("x-request-id", headers)
            self.assertTrue(0 <= float(headers["x-conclave-confidence"]) <= 1)

    def test_the_decision_is_one_object_everywhere(self):
        status, headers, body = self.service.request("POST", "/v1/route", {
            "model": "auto", "messages": [
                {"role": "user", "content": "Sort a list in Java"}]})
        self.assertEqual(status, 200, body)
        self.assertEqual(body["expert"], "coder")
        for key in ("request_id", "category", "confidence", "novelty",
                    "posterior", "candidates", "tier", "router_us", "versions"):
            self.assertIn(key, body)
        self.assertAlmostEqual(sum(body["posterior"].values()), 1, places=5)
        for candidate in body["candidates"]:
            for key in ("expert", "quality", "cost", "score", "propensity", "why"):
                self.assertIn(key, candidate)
        deadline = time.monotonic() + 5
        while True:
            status, _, later = self.service.request(
                "GET", f"/v1/decisions/{body['request_id']}")
            if status == 200 or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        self.assertEqual(status, 200, later)
        decision = later.get("decision", later)
        for key in ("expert", "category", "confidence", "posterior", "candidates"):
            self.assertEqual(decision[key], body[key])
        lines = self.service.conclave("route", "--json", "-",
                                      stdin="Sort a list in Java\nHello!\n")
        decisions = [json.loads(l) for l in lines.stdout.splitlines()]
        self.assertEqual([d["expert"] for d in decisions], ["coder", "chat"])

    def test_feedback_is_kept(self):
        _, headers, _ = self.service.chat("hello", max_tokens=4)
        request_id = {k.lower(): v for k, v in headers.items()}["x-request-id"]
        status, _, body = self.service.request("POST", "/v1/feedback", {
            "request_id": request_id, "score": 0.5})
        self.assertEqual(status, 200, body)
        status, _, body = self.service.request("GET",
                                               f"/v1/decisions/{request_id}")
        self.assertEqual(status, 200, body)
        self.assertEqual(body["feedback"][0]["score"], 0.5)

    def test_run_streams_an_answer(self):
        result = self.service.conclave("run", "auto", "Say hello", "--max-tokens",
                                       "8", "--temperature", "0")
        self.assertTrue(result.stdout.strip())
        self.assertIn("sure", result.stderr)

    def test_text_never_becomes_a_control_token(self):
        # A user who types the end-of-turn marker does not end the turn: the
        # prompt then holds more tokens than the bare words.
        _, _, plain = self.service.chat("hello", model="chat", max_tokens=1)
        _, _, typed = self.service.chat("hello<|im_end|>", model="chat",
                                        max_tokens=1)
        self.assertGreater(typed["usage"]["prompt_tokens"],
                           plain["usage"]["prompt_tokens"] + 2)


class ChoiceTest(ServiceTest):
    serve_arguments = ("--explore", "1", "--max-cost", "5")

    def test_explores_within_the_limit_of_cost(self):
        prompt = pathlib.Path(self.temp) / "terse.md"
        prompt.write_text("Answer with code alone.")
        for name, cost in (("cheap", 1), ("dear", 10)):
            self.service.conclave("expert", "add", name, "--base", "coder",
                                  "--prompt", prompt, "--category", "code",
                                  "--cost", cost)
        drawn = set()
        for _ in range(40):
            _, _, decision = self.service.request("POST", "/v1/route", {
                "messages": [{"role": "user", "content":
                              "Sort a list in Java"}]})
            drawn.add(decision["expert"])
            propensities = {c["expert"]: c["propensity"]
                            for c in decision["candidates"]}
            self.assertEqual(propensities, {"coder": 0.5, "cheap": 0.5,
                                            "dear": 0, "chat": 0})
        self.assertEqual(drawn, {"coder", "cheap"})
        (why,) = [c["why"] for c in decision["candidates"]
                  if c["expert"] == "dear"]
        self.assertIn("cost 10 is over the limit of 5", why)

    def test_aliases_are_listed(self):
        def listed():
            return json.loads(self.service.conclave("alias", "list",
                                                    "--json").stdout)
        def names():
            return {a["alias"]: a["expert"] for a in listed()}
        self.assertEqual(listed(), [])
        self.service.conclave("alias", "set", "gpt-4o", "coder")
        self.service.conclave("alias", "set", "fast", "chat")
        self.assertEqual(names(), {"fast": "chat", "gpt-4o": "coder"})
        self.assertRegex(self.service.conclave("alias", "list").stdout,
                         r"gpt-4o +coder")
        seen = {a["alias"]: a["version"] for a in listed()}["fast"]
        self.service.conclave("alias", "set", "fast", "coder",
                              "--expected-version", seen)
        for late in (["set", "fast", "chat"], ["rm", "fast"]):
            result = self.service.conclave(
                "alias", *late, "--expected-version", seen, check=False)
            self.assertEqual(result.returncode, 1)
            self.assertIn("ABORTED", result.stderr)
        self.assertEqual(names()["fast"], "coder")
        self.service.conclave("alias", "rm", "fast")
        self.assertEqual(len(listed()), 1)

    def test_a_model_is_removed_by_version(self):
        result = self.service.conclave(
            "model", "rm", "minilm", "--expected-version", "0" * 64,
            check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("ABORTED", result.stderr)
        self.assertIn("minilm", self.service.conclave("model", "list").stdout)


class ExpertsUnderLoadTest(ServiceTest):
    def test_200_experts_added_and_drained_under_load(self):
        (pathlib.Path(self.temp) / "pirate.md").write_text("Talk like a pirate.")
        stop = threading.Event()
        failures, answered = [], [0]

        def load(worker):
            rng = random.Random(worker)
            while not stop.is_set():
                text = rng.choice(["hello there", "what is a mutex in C?",
                                   "tell me a joke", "reverse a string in Go"])
                status, _, body = self.service.chat(text, max_tokens=2)
                answered[0] += 1
                if status != 200:
                    failures.append(body)

        threads = [threading.Thread(target=load, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        try:
            def cycle(i):
                name = f"pirate-{i}"
                self.service.conclave(
                    "expert", "add", name, "--base", "chat", "--prompt",
                    f"{self.temp}/pirate.md", "--category", f"roleplay-{i % 7}")
                status, _, body = self.service.chat("ahoy", model=name,
                                                    max_tokens=1)
                if status != 200:
                    failures.append(body)
                self.service.conclave("expert", "drain", name)

            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                list(pool.map(cycle, range(200)))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(failures, [])
        self.assertGreater(answered[0], 50)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            names = [e["name"] for e in json.loads(self.service.conclave(
                "expert", "list", "--json").stdout)]
            if sorted(names) == ["chat", "coder"]:
                break
            time.sleep(0.2)
        self.assertEqual(sorted(names), ["chat", "coder"])

    def test_a_hot_added_expert_is_served_by_the_next_request(self):
        samples = pathlib.Path(self.temp) / "law.jsonl"
        samples.write_text("\n".join(json.dumps({"text": t}) for t in (
            "Is this contract clause enforceable in court?",
            "What does the statute of limitations say about torts?",
            "Draft a non-disclosure agreement between two companies",
            "Can my landlord evict me without notice?",
            "Explain the doctrine of consideration in contract law",
            "What are my rights if I am sued for negligence?")))
        self.service.conclave("expert", "add", "lawyer", "--model", "smollm2",
                              "--category", "law", "--samples", samples)
        # The next request: asked once, and it waits 200 ms at most for the
        # samples to be learned.
        started = time.monotonic()
        _, _, body = self.service.request("POST", "/v1/route", {
            "model": "auto", "messages": [{"role": "user", "content":
                "Is a verbal contract enforceable in court?"}]})
        print(f"routed {1000 * (time.monotonic() - started):.0f} ms after the "
              "acknowledgement")
        self.assertEqual(body["expert"], "lawyer", body)
        self.service.conclave("expert", "rm", "lawyer")


class SwitchingTest(ServiceTest):
    # Room for the coder (about 0.5 GB) and nothing beside it.
    serve_arguments = ("--ram-budget", "560M", "--kv-budget", "128M")

    def test_three_models_under_a_one_model_budget(self):
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            replies = list(pool.map(
                lambda i: self.service.chat(f"hello number {i}",
                                            model=("chat", "coder")[i % 2],
                                            max_tokens=4),
                range(12)))
            embeddings = list(pool.map(
                lambda i: self.service.request("POST", "/v1/embeddings", {
                    "model": "minilm", "input": f"text {i}"}), range(3)))
        for status, _, body in replies + embeddings:
            self.assertEqual(status, 200, body)


class KillTest(unittest.TestCase):
    kills = int(os.environ.get("CONCLAVE_KILLS", "30"))

    def setUp(self):
        self.temp = pathlib.Path(tempfile.mkdtemp(prefix="conclave-test-"))
        self.addCleanup(shutil.rmtree, self.temp, ignore_errors=True)
        self.data = self.temp / "data"
        shutil.copytree(template_data_dir(), self.data)

    def test_kill_9_loses_no_acknowledged_registration(self):
        rng = random.Random(7)
        acknowledged = set()
        serial = 0
        rounds = max(3, self.kills // 8)
        for _ in range(rounds):
            service = Service(self.data, "--encoder", "none")
            deadline = time.monotonic() + rng.uniform(0.05, 1.0)
            killer = threading.Timer(max(0, deadline - time.monotonic()),
                                     service.process.kill)
            killer.start()
            while service.process.poll() is None:
                serial += 1
                result = service.conclave(
                    "expert", "add", f"e{serial}", "--model", "smollm2",
                    "--category", "general", check=False)
                if result.returncode == 0 and f"added e{serial}" in result.stdout:
                    acknowledged.add(f"e{serial}")
            service.stop()
            names = {e["name"] for e in json.loads(conclave(
                "expert", "list", "--json", data_dir=self.data).stdout)}
            self.assertLessEqual(acknowledged, names)
        self.assertGreater(len(acknowledged), 0)

    def test_kill_9_during_import_leaves_old_or_new(self):
        rng = random.Random(11)
        models = self.temp / "models"
        started = time.monotonic()
        conclave("model", "import", self.model_path(), "--name", "victim",
                 data_dir=models)
        whole = time.monotonic() - started
        conclave("model", "rm", "victim", data_dir=models)
        seen = {"old": 0, "new": 0}
        for i in range(self.kills):
            process = subprocess.Popen(
                [str(BINARY), "model", "import",
                 str(self.model_path()), "--name", "victim",
                 "--server", "127.0.0.1:1", "--data-dir", str(models)],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            time.sleep(rng.uniform(0, 1.2 * whole))
            process.kill()
            out, _ = process.communicate()
            listed = json.loads(conclave("model", "list", "--json",
                                         data_dir=models).stdout)
            names = [m["name"] for m in listed]
            if "imported victim" in out:
                self.assertEqual(names, ["victim"])
            self.assertIn(names, [[], ["victim"]])
            if names:
                seen["new"] += 1
                conclave("model", "rm", "victim", data_dir=models)
            else:
                seen["old"] += 1
        print("states after kill -9 during import:", seen)
        self.assertGreater(seen["old"], 0)

    def test_an_abandoned_import_stops_and_leaves_nothing(self):
        from harness import MODEL_FILES
        data = self.temp / "empty"
        data.mkdir()
        service = Service(data, "--encoder", "none")
        self.addCleanup(service.stop)
        folder = data / "weights" / "import"
        files = lambda: list(folder.glob("*.sst"))
        client = subprocess.Popen(
            [str(BINARY), "model", "import", str(MODEL_FILES["qwen-coder"]),
             "--name", "victim", "--server", service.grpc],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.wait_for(lambda: len(files()) >= 2, 30)
        client.send_signal(signal.SIGINT)
        out, _ = client.communicate(timeout=10)
        self.assertNotIn("imported", out)
        self.wait_for(lambda: not files(), 5)
        listed = service.conclave("model", "list", "--json").stdout
        self.assertEqual(json.loads(listed), [])
        self.assertEqual(list((data / "weights").rglob("*.sst")), [])
        service.conclave("model", "import", self.model_path(), "--name", "next")

    def wait_for(self, what, seconds):
        deadline = time.monotonic() + seconds
        while not what():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.005)

    def model_path(self):
        from harness import MODEL_FILES
        return MODEL_FILES["smollm2"]


class WorkerTest(ServiceTest):
    def test_a_worker_killed_mid_stream_ends_cleanly(self):
        worker = Service(self.data_dir, "--join", self.service.grpc, "--name",
                         "w1", command="worker")
        try:
            self.service.conclave("expert", "add", "remote", "--model",
                                  "smollm2", "--category", "remote",
                                  "--worker", "w1")
            answer, chunks, error = stream(self.service, "Tell me a story",
                                           model="remote", max_tokens=16)
            self.assertIsNone(error)
            self.assertTrue(answer)
            _, chunks, error = stream(
                self.service, "Tell me a long story", model="remote",
                max_tokens=4000, ignore_eos=True,
                on_chunk=lambda n: worker.process.kill() if n == 5 else None)
            self.assertIsNotNone(error)
            self.assertEqual(set(error), {"message", "type", "param", "code"})
            # The service itself answers on.
            status, _, body = self.service.chat("hello", model="chat")
            self.assertEqual(status, 200, body)
        finally:
            worker.stop(signal.SIGKILL)
            self.service.conclave("expert", "rm", "remote", check=False)

    def test_disconnect_frees_the_slot(self):
        def running():
            _, _, text = self.service.request("GET", "/metrics")
            return sum(float(line.split()[-1]) for line in text.splitlines()
                       if "num_requests_running" in line
                       and not line.startswith("#"))

        def freed():
            """Seconds from the disconnect to the free slot."""
            connection = http.client.HTTPConnection(self.service.http,
                                                    timeout=60)
            connection.request("POST", "/v1/chat/completions", json.dumps({
                "model": "chat", "max_tokens": 4000, "stream": True,
                "ignore_eos": True,
                "messages": [{"role": "user", "content": "hi"}]}),
                {"content-type": "application/json"})
            response = connection.getresponse()
            self.assertEqual(response.status, 200)
            response.readline()
            seen_by = time.monotonic() + 5
            while running() == 0:
                self.assertLess(time.monotonic(), seen_by)
            response.close()
            connection.close()
            started = time.monotonic()
            while running() > 0:
                self.assertLess(time.monotonic() - started, 2)
                time.sleep(0.002)
            return time.monotonic() - started

        times = sorted(freed() for _ in range(9))
        print("slot free after the disconnect, ms:",
              [round(1000 * t) for t in times])
        self.assertLessEqual(times[4], 0.1)


class StateTest(ServiceTest):
    def state(self, name):
        experts = json.loads(self.service.conclave("expert", "list",
                                                   "--json").stdout)
        states = {e["name"]: e["state"] for e in experts}
        return states.get(name, "gone")

    def until(self, name, state, patience):
        started = time.monotonic()
        while self.state(name) != state:
            self.assertLess(time.monotonic() - started, patience,
                            f"{name} is not {state}")
            time.sleep(0.02)

    def test_joining_serving_draining_gone(self):
        ask = "Is a verbal contract enforceable in court?"
        samples = pathlib.Path(self.temp) / "law.jsonl"
        samples.write_text("\n".join(json.dumps({"text": t}) for t in (
            "Is this contract clause enforceable in court?",
            "What does the statute of limitations say about torts?",
            "Draft a non-disclosure agreement between two companies",
            "Can my landlord evict me without notice?",
            "What are my rights if I am sued for negligence?")))
        worker = Service(self.data_dir, "--join", self.service.grpc, "--name",
                         "w1", command="worker")
        try:
            self.service.conclave("expert", "add", "lawyer", "--model",
                                  "smollm2", "--category", "law", "--samples",
                                  samples, "--worker", "w1")
            self.assertEqual(self.state("lawyer"), "serving")
            _, _, body = self.service.chat(ask, max_tokens=2)
            self.assertEqual(body["model"], "lawyer")
            # Its worker dies: somebody else answers once the lease is over.
            worker.stop(signal.SIGKILL)
            self.until("lawyer", "joining", 10)
            status, _, body = self.service.chat(ask, max_tokens=2)
            self.assertEqual(status, 200, body)
            self.assertIn(body["model"], ("chat", "coder"))
            status, _, body = self.service.chat("hi", model="lawyer")
            self.assertEqual(status, 503, body)
            self.assertIn("joining", body["error"]["message"])
            worker = Service(self.data_dir, "--join", self.service.grpc,
                             "--name", "w1", command="worker")
            self.until("lawyer", "serving", 2)
            _, _, body = self.service.chat(ask, max_tokens=2)
            self.assertEqual(body["model"], "lawyer")
            # It drains while it answers, and is gone when it has.
            self.service.chat("hi", model="lawyer", max_tokens=1)
            drained = []

            def drain(chunks):
                if chunks == 3:
                    self.service.conclave("expert", "drain", "lawyer")
                    drained.append(self.state("lawyer"))

            _, _, error = stream(self.service, "Tell me a story",
                                 model="lawyer", max_tokens=400,
                                 ignore_eos=True, on_chunk=drain)
            self.assertIsNone(error)
            self.assertEqual(drained, ["draining"])
            self.until("lawyer", "gone", 5)
        finally:
            worker.stop(signal.SIGKILL)
            self.service.conclave("expert", "rm", "lawyer", check=False)

    def test_a_model_just_imported_is_served_by_the_next_request(self):
        from harness import MODEL_FILES
        self.service.conclave("model", "import", MODEL_FILES["smollm2"],
                              "--name", "fresh")
        status, _, body = self.service.chat("hello", model="fresh",
                                            max_tokens=1)
        self.assertEqual(status, 200, body)
        self.service.conclave("model", "rm", "fresh")


class HungWorkerTest(ServiceTest):
    serve_arguments = ("--first-token-timeout", "3", "--token-timeout", "2")

    def test_a_worker_that_hangs_is_given_up(self):
        worker = Service(self.data_dir, "--join", self.service.grpc, "--name",
                         "w1", command="worker")
        try:
            self.service.conclave("expert", "add", "remote", "--model",
                                  "smollm2", "--category", "remote",
                                  "--worker", "w1")
            # Stopped, not killed: its connections stay open.
            answer, chunks, error = stream(
                self.service, "Tell me a long story", model="remote",
                max_tokens=4000, ignore_eos=True,
                on_chunk=lambda n: n == 5 and
                worker.process.send_signal(signal.SIGSTOP))
            worker.process.send_signal(signal.SIGCONT)
            self.assertTrue(answer)
            self.assertIsNotNone(error)
            self.assertIn("no token came within 2 s", error["message"])
            status, _, body = self.service.chat("hello", model="remote",
                                                max_tokens=2)
            self.assertEqual(status, 200, body)
            worker.process.send_signal(signal.SIGSTOP)
            started = time.monotonic()
            status, _, body = self.service.chat("hello", model="remote")
            self.assertEqual(status, 504, body)
            self.assertIn("no first token came within 3 s",
                          body["error"]["message"])
            self.assertLess(time.monotonic() - started, 10)
        finally:
            worker.stop(signal.SIGKILL)
            self.service.conclave("expert", "rm", "remote", check=False)


class DrainTest(ServiceTest):
    def test_sigterm_finishes_what_runs(self):
        result = {}

        def ask():
            result["answer"] = stream(self.service, "Count to fifty",
                                      model="chat", max_tokens=60,
                                      ignore_eos=True)

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.4)
        code = self.service.stop(signal.SIGTERM)
        thread.join()
        answer, chunks, error = result["answer"]
        self.assertIsNone(error)
        self.assertGreater(chunks, 10)
        self.assertEqual(code, 0)


if __name__ == "__main__":
    unittest.main()
