"""Two API keys of one service: who finds which cached prompt, and what a flood
by one does to the other."""
import http.client
import json
import pathlib
import shutil
import tempfile
import threading
import time
import unittest

from harness import Service, ServiceTest, conclave, template_data_dir


class TenantsTest(ServiceTest):
    @classmethod
    def setUpClass(cls):
        cls.temp = tempfile.mkdtemp(prefix="conclave-test-")
        cls.data_dir = pathlib.Path(cls.temp) / "data"
        shutil.copytree(template_data_dir(), cls.data_dir)
        cls.keys, lines = {}, ""
        # A pair for each test: a key that has asked before finds the chat
        # template's own beginning.
        for name in ("acme", "other", "flood", "guest"):
            made = conclave("key", name)
            cls.keys[name] = made.stderr.strip()
            lines += made.stdout
        key_file = pathlib.Path(cls.temp) / "keys"
        key_file.write_text(lines)
        cls.service = Service(cls.data_dir, "--api-key-file", key_file,
                              "--max-batch", "3", "--kv-budget", "256M")

    def headers(self, tenant):
        return {"authorization": f"Bearer {self.keys[tenant]}"}

    def ask(self, tenant, messages, **fields):
        status, headers, body = self.service.request(
            "POST", "/v1/chat/completions",
            {"model": "chat", "temperature": 0, "max_tokens": 24,
             "messages": messages, **fields}, self.headers(tenant))
        return status, {k.lower(): v for k, v in headers.items()}, body

    def test_the_next_turn_is_cached_for_its_own_key(self):
        messages = [{"role": "user", "content":
                     "Tell me about the lighthouse on the cape. " * 8}]
        status, _, first = self.ask("acme", messages)
        self.assertEqual(status, 200, first)
        details = first["usage"]["prompt_tokens_details"]
        self.assertEqual(details["cached_tokens"], 0)
        messages += [
            {"role": "assistant",
             "content": first["choices"][0]["message"]["content"]},
            {"role": "user", "content": "Who lived there?"}]
        _, _, second = self.ask("acme", messages)
        cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
        # Everything but the new turn, or nearly: the answer's text may have
        # become other tokens.
        self.assertGreaterEqual(cached, first["usage"]["prompt_tokens"])
        self.assertLess(cached, second["usage"]["prompt_tokens"])
        print(f"second turn: {cached} of {second['usage']['prompt_tokens']} "
              "tokens cached")
        _, _, stranger = self.ask("other", messages)
        self.assertEqual(
            stranger["usage"]["prompt_tokens_details"]["cached_tokens"], 0)
        self.assertEqual(stranger["choices"], second["choices"])
        _, _, text = self.service.request("GET", "/metrics", None,
                                          self.headers("acme"))
        figures = {}
        for line in text.splitlines():
            if 'model_name="smollm2"' in line:
                name, value = line.split("{")[0], float(line.split()[-1])
                figures[name] = value
        self.assertGreaterEqual(figures["conclave_prefix_cache_hits_total"], 1)
        self.assertGreaterEqual(
            figures["conclave_prefix_cache_saved_tokens_total"], cached)
        self.assertEqual(figures["vllm:prefix_cache_hits_total"],
                         figures["conclave_prefix_cache_saved_tokens_total"])
        self.assertGreater(figures["conclave_prefix_cache_pages"], 0)
        self.assertGreater(figures["conclave_model_weights_bytes"], 0)

    def test_a_flood_by_one_key_does_not_hold_up_the_other(self):
        connections = []

        def flood(i):
            connection = http.client.HTTPConnection(self.service.http,
                                                    timeout=120)
            connections.append(connection)
            connection.request("POST", "/v1/chat/completions", json.dumps({
                "model": "chat", "max_tokens": 4000, "ignore_eos": True,
                "stream": True, "messages": [
                    {"role": "user", "content": f"Count from {i}."}]}),
                {"content-type": "application/json", **self.headers("flood")})
            connection.getresponse().readline()

        threads = [threading.Thread(target=flood, args=(i,), daemon=True)
                   for i in range(12)]
        for thread in threads:
            thread.start()
        time.sleep(2)
        started = time.monotonic()
        status, _, body = self.ask(
            "guest", [{"role": "user", "content": "Say hello."}],
            max_tokens=4)
        self.assertEqual(status, 200, body)
        waited = time.monotonic() - started
        # The flood's answers take minutes each.
        self.assertLess(waited, 30)
        print(f"answered after {waited:.1f} s beside a flood")
        for connection in connections:
            connection.close()

    def test_what_fits_no_cache_is_refused_for_good(self):
        # 8,000 tokens are 250 pages of 720 KiB; the budget, divided among the
        # models, holds fewer.
        status, headers, body = self.ask(
            "acme", [{"role": "user", "content": "Hi"}], max_tokens=8000)
        self.assertEqual(status, 400, body)
        self.assertEqual(body["error"]["code"], "kv_budget_exceeded")
        self.assertIn("KV pages", body["error"]["message"])
        self.assertNotIn("retry-after", headers)


if __name__ == "__main__":
    unittest.main()
