"""The official openai client against the real service: openai_client/ holds
the calls, this starts the service they are made to."""
import os
import pathlib
import subprocess
import sys
import unittest

from harness import ServiceTest


class OpenAiClientTest(ServiceTest):
    def test_every_route(self):
        script = pathlib.Path(__file__).parent / "openai_client/test_openai.py"
        result = subprocess.run(
            [sys.executable, str(script)], text=True, capture_output=True,
            timeout=900, env={**os.environ,
                              "CONCLAVE_URL": f"http://{self.service.http}",
                              "CONCLAVE_ENCODER": "minilm",
                              "CONCLAVE_EXPERT": "chat"})
        print(result.stdout[-6000:], result.stderr[-3000:])
        self.assertEqual(result.returncode, 0)


if __name__ == "__main__":
    unittest.main()
