"""Golden token ids from Hugging Face `tokenizers`.

Usage: CONCLAVE_MODELS=DIR make_golden.py
Needs tokenizers and gguf. DIR holds the models that scripts/fetch_models
fetches. The strings are generated here and in the C++ test alike, from
fragments.json, so only hashes of ids are kept: one per 100 strings, the first
50 strings in full.
"""
import json
import os
import pathlib

from gguf import GGUFReader
from tokenizers import (AddedToken, Regex, Tokenizer, models, normalizers,
                        pre_tokenizers, trainers)

HERE = pathlib.Path(__file__).parent
MODELS = pathlib.Path(os.environ.get(
    "CONCLAVE_MODELS", pathlib.Path.home() / ".cache/conclave/models"))
NUM_STRINGS = 12000
BLOCK = 100
NUM_FULL = 50
MASK = (1 << 64) - 1

QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
         r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA_BPE = QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|")


def strings():
    table = json.loads((HERE / "fragments.json").read_text())
    fragments, ranges = table["fragments"], table["ranges"]
    for i in range(NUM_STRINGS):
        state = ((i + 1) * 0x9E3779B97F4A7C15) & MASK

        def draw(n):
            nonlocal state
            state ^= (state << 13) & MASK
            state ^= state >> 7
            state ^= (state << 17) & MASK
            return state % n

        text = ""
        for _ in range(1 + draw(16)):
            if draw(8) < 6:
                text += fragments[draw(len(fragments))]
            else:
                low, high = ranges[draw(len(ranges))]
                text += chr(low + draw(high - low + 1))
        yield text


def fold(ids, h):
    for i in [len(ids), *ids]:
        h = ((h ^ i) * 0x100000001B3) & MASK
    return h


def golden(encode):
    blocks, full, h = [], [], 0xCBF29CE484222325
    for i, text in enumerate(strings()):
        ids = encode(text)
        if i < NUM_FULL:
            full.append(ids)
        h = fold(ids, h)
        if (i + 1) % BLOCK == 0:
            blocks.append(f"{h:016x}")
            h = 0xCBF29CE484222325
    return {"blocks": blocks, "full": full}


def pre_tokenizer(pre):
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False,
                                          use_regex=pre in ("gpt2", "smollm"))
    if pre == "gpt2":
        return byte_level
    if pre == "smollm":
        first = pre_tokenizers.Digits(individual_digits=True)
    else:
        first = pre_tokenizers.Split(
            Regex(QWEN2 if pre == "qwen2" else LLAMA_BPE), "isolated")
    return pre_tokenizers.Sequence([first, byte_level])


def bpe(pre, tokens, types, merges, with_control):
    model = models.BPE({t: i for i, t in enumerate(tokens)},
                       [tuple(m.split(" ")) for m in merges],
                       ignore_merges=pre == "llama-bpe")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer(pre)
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    added = [AddedToken(t, normalized=False, special=kind == 3)
             for t, kind in zip(tokens, types)
             if kind == 4 or (kind == 3 and with_control)]
    tokenizer.add_tokens(added)
    return tokenizer


def write(name, content):
    path = HERE / f"{name}.json"
    path.write_text(json.dumps(content, indent=None,
                               separators=(",", ":")) + "\n")
    print(path.name, path.stat().st_size)


def both(make):
    return {mode: golden(lambda t, z=make(mode == "parse"):
                         z.encode(t, add_special_tokens=False).ids)
            for mode in ("parse", "text")}


def from_gguf(name, file):
    reader = GGUFReader(MODELS / file)
    field = lambda key: reader.fields["tokenizer.ggml." + key].contents()
    args = (field("pre"), field("tokens"), field("token_type"),
            field("merges"))
    write(name, both(lambda control: bpe(*args, control)))


def trained(pre):
    """A vocabulary small enough to commit, learnt from the strings."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer(pre)
    tokenizer.train_from_iterator(
        (t for i, t in enumerate(strings()) if i % 3 == 0),
        trainers.BpeTrainer(
            vocab_size=1200, show_progress=False, min_frequency=2,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    state = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(state["vocab"], key=state["vocab"].get)
    merges = [m if isinstance(m, str) else " ".join(m)
              for m in state["merges"]]
    types = [1] * len(tokens)
    for text, kind in (("<|im_start|>", 3), ("<|im_end|>", 3),
                       ("<tool_call>", 4), ("<|endoftext|>", 3)):
        tokens.append(text)
        types.append(kind)
    content = both(lambda control: bpe(pre, tokens, types, merges, control))
    content["spec"] = {"pre": pre, "tokens": tokens, "types": types,
                       "merges": merges}
    write("trained_" + pre.replace("-", "_"), content)


def wordpiece():
    path = str(MODELS / "all-MiniLM-L6-v2/tokenizer.json")
    control = Tokenizer.from_file(path)
    control.no_truncation()
    control.no_padding()
    state = json.loads(Tokenizer.from_file(path).to_str())
    state["added_tokens"] = []
    state["post_processor"] = state["truncation"] = state["padding"] = None
    plain = Tokenizer.from_str(json.dumps(state))
    write("minilm", both(lambda parse: control if parse else plain))


if __name__ == "__main__":
    from_gguf("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    from_gguf("qwen2_coder", "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf")
    trained("gpt2")
    trained("llama-bpe")
    wordpiece()
