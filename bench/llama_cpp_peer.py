"""llama.cpp through its C interface, measured as our engine is: a request a
line on standard input ("one", "streams"), a JSON line of tokens per second.

Greedy generation; tokens are chosen by numpy from the logits in place, so that
Python adds microseconds to a step of milliseconds.
"""
import argparse
import ctypes
import json
import sys
import time


class Peer:
    def __init__(self, args):
        import llama_cpp
        import numpy
        self.c, self.np, self.args = llama_cpp, numpy, args
        llama_cpp.llama_backend_init()
        quiet = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
        self.quiet = quiet  # keeps the callback alive
        params = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(
            args.model.encode(), params)
        if not self.model:
            sys.exit(f"llama.cpp cannot load {args.model}")
        vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(vocab)
        self.one = self.context(1, args.prompt + args.generate + 8)
        self.many = self.context(
            self.args.streams,
            self.args.streams * (args.stream_prompt + args.generate + 8))
        self.serial = 0

    def context(self, sequences, tokens):
        params = self.c.llama_context_default_params()
        params.n_ctx = tokens
        params.n_batch = params.n_ubatch = 512
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = self.args.threads
        context = self.c.llama_init_from_model(self.model, params)
        if not context:
            sys.exit("llama.cpp cannot make a context")
        return context

    def prompt(self, length):
        self.serial += 1
        return [1000 + (i * 7919 + self.serial * 104729) % 20000
                for i in range(length)]

    def decode(self, context, rows):
        """rows: (token, position, sequence, wants logits). Chosen tokens."""
        batch = self.c.llama_batch_init(len(rows), 0, 1)
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = wanted
        if self.c.llama_decode(context, batch) != 0:
            sys.exit("llama_decode failed")
        chosen = []
        for i, row in enumerate(rows):
            if row[3]:
                logits = self.np.ctypeslib.as_array(
                    self.c.llama_get_logits_ith(context, i),
                    (self.vocab_size,))
                chosen.append(int(logits.argmax()))
        self.c.llama_batch_free(batch)
        return chosen

    def clear(self, context):
        self.c.llama_memory_clear(self.c.llama_get_memory(context), True)

    def measure_one(self):
        self.clear(self.one)
        prompt = self.prompt(self.args.prompt)
        start = time.perf_counter()
        # n_batch is 512: a longer prompt goes in pieces.
        for at in range(0, len(prompt), 512):
            piece = prompt[at:at + 512]
            token = self.decode(
                self.one,
                [(t, at + i, 0, at + i + 1 == len(prompt))
                 for i, t in enumerate(piece)])
        middle = time.perf_counter()
        for i in range(self.args.generate):
            token = self.decode(self.one,
                                [(token[0], len(prompt) + i, 0, True)])
        end = time.perf_counter()
        return {"prompt_tok_s": len(prompt) / (middle - start),
                "generate_tok_s": self.args.generate / (end - middle)}

    def measure_streams(self):
        self.clear(self.many)
        tokens = []
        for sequence in range(self.args.streams):
            prompt = self.prompt(self.args.stream_prompt)
            tokens += self.decode(
                self.many, [(t, i, sequence, i + 1 == len(prompt))
                            for i, t in enumerate(prompt)])
        start = time.perf_counter()
        for i in range(self.args.generate):
            tokens = self.decode(
                self.many, [(t, self.args.stream_prompt + i, sequence, True)
                            for sequence, t in enumerate(tokens)])
        seconds = time.perf_counter() - start
        return {"streams_tok_s":
                self.args.streams * self.args.generate / seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    for name in ("threads", "prompt", "generate", "stream-prompt"):
        parser.add_argument("--" + name, type=int, required=True)
    parser.add_argument("--streams", type=int, default=8)
    peer = Peer(parser.parse_args())
    measures = {"one": peer.measure_one, "streams": peer.measure_streams}
    for line in sys.stdin:
        print(json.dumps(measures[line.strip()]()), flush=True)


if __name__ == "__main__":
    main()
