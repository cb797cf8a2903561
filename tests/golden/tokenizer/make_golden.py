"""Golden token ids from Hugging Face `tokenizers` and from `sentencepiece`.

Usage: CONCLAVE_MODELS=DIR make_golden.py [NAME]...
NAME: smollm2 qwen2_coder minilm trained gemma3 trained_sentencepiece
sentencepiece_folder (which needs transformers); all when none is given. Needs
tokenizers, sentencepiece and gguf. DIR holds the models that scripts/fetch_models
fetches. The strings are generated here and in the C++ test alike, from
fragments.json, so only hashes of ids are kept: one per 100 strings, the first
50 strings in full.
"""
import io
import json
import os
import pathlib
import re
import sys

import sentencepiece
from gguf import GGUFReader
from sentencepiece import sentencepiece_model_pb2
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


NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


def sentencepiece_golden(spec):
    """A spec as the C++ test reads it, through the library's Python package."""
    proto = sentencepiece_model_pb2.ModelProto()
    for i, (text, score, kind) in enumerate(
            zip(spec["tokens"], spec["scores"], spec["types"])):
        if kind == USER_DEFINED:  # GGUF writes their spaces bare
            text = text.replace(" ", "\u2581")
        if i == spec["unk_id"]:
            kind = UNKNOWN
        proto.pieces.add(piece=text, score=score, type=kind)
    proto.trainer_spec.model_type = proto.trainer_spec.BPE
    proto.trainer_spec.byte_fallback = BYTE in spec["types"]
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.add_dummy_prefix = spec["add_space_prefix"]
    proto.normalizer_spec.remove_extra_whitespaces = \
        spec["remove_extra_spaces"]
    processor = sentencepiece.SentencePieceProcessor(
        model_proto=proto.SerializeToString())
    control = {t: i for i, (t, k) in enumerate(
        zip(spec["tokens"], spec["types"])) if k == CONTROL}
    split = re.compile("(" + "|".join(
        re.escape(t) for t in sorted(control, key=len, reverse=True)) + ")")

    def parse(text):
        ids = []
        for part in split.split(text):
            if part in control:
                ids.append(control[part])
            elif part:
                ids += processor.encode(part)
        return ids

    return {"text": golden(processor.encode), "parse": golden(parse)}


def gemma3():
    reader = GGUFReader(MODELS / "gemma-3-270m.Q4_K_M.gguf")
    field = lambda key: reader.fields["tokenizer.ggml." + key].contents()
    write("gemma3", sentencepiece_golden({
        "tokens": field("tokens"), "scores": field("scores"),
        "types": field("token_type"), "unk_id": field("unknown_token_id"),
        "add_space_prefix": field("add_space_prefix"),
        "remove_extra_spaces": False}))


def trained_sentencepiece():
    """Small vocabularies: Llama 2's manner (a space before the text), and one
    without byte fallback that makes runs of spaces one."""
    # Characters of few scripts, that the alphabet leaves room for words.
    lines = ["".join(c for c in t if ord(c) < 0x250 and c != "\n")
             for i, t in enumerate(strings()) if i % 3 == 0]
    for name, fallback, extra in (("llama", True, False),
                                  ("plain", False, True)):
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model, model_type="bpe", vocab_size=1200,
            byte_fallback=fallback, normalization_rule_name="identity",
            remove_extra_whitespaces=extra, character_coverage=0.98,
            user_defined_symbols=["<tool_call>", "\u2581\u2581", "\n"],
            control_symbols=["<|im_start|>", "<|im_end|>"],
            minloglevel=2, num_threads=1)
        proto = sentencepiece_model_pb2.ModelProto()
        proto.ParseFromString(model.getvalue())
        spec = {
            "tokens": [p.piece for p in proto.pieces],
            "scores": [p.score for p in proto.pieces],
            "types": [p.type for p in proto.pieces],
            "unk_id": 0, "add_space_prefix": True,
            "remove_extra_spaces": extra}
        content = sentencepiece_golden(spec)
        content["spec"] = spec
        write("trained_sentencepiece_" + name, content)


def sentencepiece_folder():
    """One vocabulary as tokenizer.model and as transformers converts it."""
    import transformers
    folder = HERE / "sentencepiece_folder"
    folder.mkdir(exist_ok=True)
    lines = ["".join(c for c in t if ord(c) < 0x180 and c != "\n")
             for i, t in enumerate(strings()) if i % 3 == 0]
    model = io.BytesIO()  # a file's path would stand in the file
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe",
        vocab_size=700, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False,
        character_coverage=0.98, user_defined_symbols=["<tool_call>"],
        minloglevel=2, num_threads=1)
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    config = folder / "config.json"
    config.write_text(json.dumps({"model_type": "llama", "vocab_size": 700}))
    settings = folder / "tokenizer_config.json"
    settings.write_text(json.dumps({"tokenizer_class": "LlamaTokenizer",
                                    "legacy": False}))
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    config.unlink()
    for file in (settings, folder / "tokenizer.json"):
        state = json.loads(file.read_text())
        state.pop("local_files_only", None)
        file.write_text(json.dumps(state, separators=(",", ":")) + "\n")


ALL = {
    "smollm2": lambda: from_gguf("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
    "qwen2_coder": lambda: from_gguf(
        "qwen2_coder", "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf"),
    "minilm": wordpiece,
    "trained": lambda: (trained("gpt2"), trained("llama-bpe")),
    "gemma3": gemma3,
    "trained_sentencepiece": trained_sentencepiece,
    "sentencepiece_folder": sentencepiece_folder,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or ALL:
        ALL[name]()
