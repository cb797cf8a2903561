"""The newcomer's command: two answers from the right experts, the same again at
once, and a Ctrl-C that cuts nobody off."""
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
from types import SimpleNamespace

from harness import ROOT, stream


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class QuickstartTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temp = pathlib.Path(tempfile.mkdtemp(prefix="conclave-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.temp, ignore_errors=True)
        (cls.temp / "tmp").mkdir()

    def start(self, *arguments):
        """The script, leading a process group of its own, as a shell would
        start it; what it says goes to a file."""
        self.http = f"127.0.0.1:{free_port()}"
        self.said = self.temp / "said"
        env = {**os.environ, "CONCLAVE_DATA_DIR": str(self.temp / "data"),
               "CONCLAVE_HTTP": self.http, "TMPDIR": str(self.temp / "tmp"),
               "CONCLAVE_GRPC": f"127.0.0.1:{free_port()}"}
        with open(self.said, "wb") as said:
            process = subprocess.Popen(
                [str(ROOT / "scripts/quickstart"), *arguments], stdout=said,
                stderr=said, stdin=subprocess.DEVNULL, env=env,
                start_new_session=True,
                # A CI that runs this in the background has it ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT,
                                                 signal.SIG_DFL))
        self.addCleanup(self.kill, process)
        return process

    @staticmethod
    def kill(process):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def until_serving(self, process):
        patience = time.monotonic() + 600
        while "Ctrl-C stops" not in self.said.read_text():
            self.assertIsNone(process.poll(), self.said.read_text())
            self.assertLess(time.monotonic(), patience, self.said.read_text())
            time.sleep(0.05)

    def check_answers(self):
        said = self.said.read_text()
        self.assertRegex(said, re.compile("^coder <- code", re.M))
        self.assertRegex(said, re.compile("^chat <- chat", re.M))

    def check_left_behind(self):
        self.assertEqual(list((self.temp / "tmp").iterdir()), [])

    def test_1_two_answers(self):
        self.assertEqual(self.start("--once").wait(900), 0,
                         self.said.read_text())
        self.check_answers()
        self.check_left_behind()

    def stop_mid_answer(self, send):
        """Serves, sends the signal while an answer runs -> exit code."""
        process = self.start()
        self.until_serving(process)
        self.check_answers()
        result = {}
        begun = threading.Event()

        def ask():
            result["answer"] = stream(
                SimpleNamespace(http=self.http), "Count to fifty",
                model="chat", max_tokens=150, ignore_eos=True,
                on_chunk=lambda n: n == 3 and begun.set())

        thread = threading.Thread(target=ask)
        thread.start()
        self.assertTrue(begun.wait(60))
        send(process.pid)
        code = process.wait(60)
        thread.join()
        _, chunks, error = result["answer"]
        self.assertIsNone(error)
        self.assertGreater(chunks, 100)
        self.check_left_behind()
        return code

    def test_2_ctrl_c_drains(self):
        # What a terminal does: everybody in the foreground gets it.
        self.assertEqual(
            self.stop_mid_answer(lambda pid: os.killpg(pid, signal.SIGINT)), 0)

    def test_3_sigterm_drains(self):
        self.assertEqual(
            self.stop_mid_answer(lambda pid: os.kill(pid, signal.SIGTERM)), 0)

    def test_4_ctrl_c_before_it_serves(self):
        process = self.start()
        while "ready http" not in self.said.read_text():
            self.assertIsNone(process.poll(), self.said.read_text())
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        self.assertEqual(process.wait(60), 130)
        self.check_left_behind()


if __name__ == "__main__":
    unittest.main()
