"""Writes fragments.json: what the generated test strings are made of."""
import json
import pathlib

FRAGMENTS = [
    # Words, spaces and line ends in every combination the split rules name.
    "the", "The", " the", "Hello", " world", "internationalisation", "x", "I",
    " a", " ", "  ", "   ", "        ", "\t", "\t\t", "\n", "\n\n", "\n\n\n",
    "\r\n", "\r", " \n", "\n ", " \r\n \n", "\t\n\t", "\u00a0", "\u2003",
    "\u3000", "\u2028", "\u0085", "\u200b", "\ufeff", "\u000b", "\u000c",
    # Contractions, case and the long s.
    "'s", "'S", "'t", "'re", "'RE", "'Ve", "'ve", "'m", "'ll", "'LL", "'d",
    "don't", "DON'T", "we'll", "y'all'd've", "'\u017f", "'", "''", "'x",
    " 'tis", "\u2019s", "o'clock",
    # Numbers.
    "0", "1", "12", "123", "1234", "12345678901234567890", " 42", "3.14159",
    "1,000,000", "1e-9", "0x7fff", "\u00bd", "\u00b2", "\u2167", "\u2460",
    "\u0661\u0662\u0663", "\u0967\u0968", "\uff11\uff12", "\U0001d7d8",
    "\u4e00\u4e8c\u4e09", "v2.0.1", "a1b2c3",
    # Punctuation.
    ".", "...", "?!", " - ", "--", "\u2014", "(", ")", "[]", "{}", "{{", "}}",
    "<", ">", "</", "/>", "|", "||", "&&", "==", "!=", "=>", "->", "::", ";",
    "#", "##", "@", "$", "%", "^", "*", "**", "_", "__init__", "~", "`",
    "```", "\\", "\\n", "\"", "\u00ab\u00bb", "\u201c\u201d", "\u3002",
    "\uff0c", "\u060c", "\u00bf", "\u00a1", "\u2026", "\u20ac", "\u00a3",
    # Code.
    "def f(x):\n    return x + 1\n", "for (int i = 0; i < n; ++i) {\n",
    "std::vector<std::string>", "#include <vector>\n", "SELECT * FROM t;",
    "https://example.org/a?b=c&d=%20#e", "user@example.com", "\tif x:\n\t\t",
    "camelCaseName", "snake_case_name", "SCREAMING_CASE", "lambda x: x**2",
    "<div class=\"a\">", "&amp;", "{\"a\": [1, 2.5, null]}",
    # Accents, composed and not; normalisation.
    "caf\u00e9", "cafe\u0301", "na\u00efve", "A\u030a", "\u00c5", "\u212b",
    "\u0041\u0328\u0301", "\u1e69", "s\u0323\u0307", "s\u0307\u0323", "\ufb01",
    "\u1100\u1161\u11a8", "\uac01", "\u0130", "\u0131", "\u1e9e", "\u00df",
    "STRASSE", "\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2", "\u01c5",
    "\u0344", "\u0958", "\u2126", "\u212a", "\u0300", "\u0301\u0302\u0303",
    "\u0345", "\u20dd", "e\u0323\u0302",
    # Scripts.
    "\u041f\u0440\u0438\u0432\u0435\u0442", " \u043c\u0438\u0440",
    "\u4f60\u597d", "\u4e16\u754c", "\u3053\u3093\u306b\u3061\u306f",
    "\u30ab\u30bf\u30ab\u30ca\u30fc", "\ud55c\uad6d\uc5b4", "\u0e2a\u0e27\u0e31",
    "\u0633\u0644\u0627\u0645", "\u05e9\u05c1\u05c1\u05dc\u05d5\u05b9\u05dd",
    "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0ba8\u0ba9\u0bcd\u0bb1\u0bbf",
    "\u1019\u103c\u1014\u103a\u1019\u102c", "\u12a0\u121b\u122d\u129b",
    "\u0f56\u0f7c\u0f51", "\u10e5\u10d0\u10e0\u10d7", "\u0531\u0532",
    "Ti\u1ebfng Vi\u1ec7t", "\u0049\u0307", "\u02bcn", "\u202eabc\u202c",
    # Emoji: modifiers, joiners, flags, keycaps.
    "\U0001f600", "\U0001f44d\U0001f3fd", "\u2764\ufe0f",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea",
    "1\ufe0f\u20e3", "\u00a9", "\u2122", "\U0001f9d1\u200d\U0001f4bb",
    # Mathematics and rare planes.
    "\U0001d4d0\U0001d4d1", "\u2200x\u2208\u211d", "\u2211", "\u221a2",
    "\U00020000", "\U0002a6d6", "\U00010330", "\u2fa1", "\uf900",
    "\U0002f800", "\ue000", "\U000f0000", "\U0010fffd", "\ufffd", "\uffff",
    "\u0000", "\u0001", "\u001f", "\u007f", "\u009f", "\u00ad",
    # Control and added tokens of the models, whole and broken.
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_start|", "im_end|>",
    "<|im_<|im_end|>end|>", "<tool_call>", "</tool_call>", "<file_sep>",
    "<reponame>", "<repo_name>", "<|fim_prefix|>", "[CLS]", "[SEP]", "[MASK]",
    "[UNK]", "[PAD]", "[unused0]",
]

# Random characters come from these ranges.
RANGES = [
    (0x20, 0x7e), (0x20, 0x7e), (0xa0, 0x17f), (0x180, 0x24f), (0x250, 0x2af),
    (0x2b0, 0x2ff), (0x300, 0x36f), (0x391, 0x3a1), (0x3b1, 0x3c9),
    (0x400, 0x481), (0x482, 0x4ff), (0x5d0, 0x5ea), (0x621, 0x652),
    (0x660, 0x669), (0x905, 0x939), (0x93e, 0x94d), (0x966, 0x96f),
    (0xe01, 0xe3a), (0x1100, 0x1112), (0x1161, 0x1175), (0x11a8, 0x11c2),
    (0x1e00, 0x1eff), (0x2000, 0x2027), (0x2030, 0x205e), (0x2070, 0x2071),
    (0x2074, 0x208e), (0x2100, 0x214f), (0x2150, 0x2188), (0x2190, 0x23ff),
    (0x2460, 0x24ff), (0x2500, 0x27bf), (0x3001, 0x303f), (0x3041, 0x3096),
    (0x30a1, 0x30ff), (0x4e00, 0x9fa5), (0xac00, 0xd7a3), (0xfb00, 0xfb06),
    (0xff01, 0xffbe), (0x1d400, 0x1d454), (0x1f300, 0x1f5ff),
    (0x1f600, 0x1f64f), (0x20000, 0x2a6d6),
]

path = pathlib.Path(__file__).with_name("fragments.json")
path.write_text(json.dumps({"fragments": FRAGMENTS, "ranges": RANGES},
                           indent=0) + "\n")
