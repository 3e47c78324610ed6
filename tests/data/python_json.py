"""What Python's json makes of texts: a line "HEXADECIMAL VALUE" for each of many, the VALUE as jansson writes what
kv_json_parse makes of it, or "-" where Python refuses the text.

NaN, infinities, halves of surrogate pairs and NULs are written as data/file/json_text.h says, as objects that tell what
they were. The texts are those of a table and, drawn from a fixed seed, values with something damaged in them.
"""
import json
import random
import sys

sys.set_int_max_str_digits(0)
ODD = "\ufdd0"

table = [
    '{"a": 1, "b": [true, false, null], "c": "text"}', " [ ] ", "{}", '""', "0", "-0", "-0.0", "1.5e3", "1E+2", "1e-2",
    "NaN", "Infinity", "-Infinity", "[NaN, Infinity, -Infinity]", '{"a": NaN}', "nan", "-NaN", "+1", "NaNa", "[Nan]",
    "inf", "INFINITY", "Infinity1", "[1, NaN,]", "{NaN: 1}", '{"NaN": "NaN", "Infinity": "-Infinity"}', '"NaN"', '["\\"", NaN]',
    "9223372036854775807", "-9223372036854775808", "9223372036854775808", "-9223372036854775809",
    "1000000000000000019884624838656", "123456789012345678901234567890", "[" + "9" * 400 + "]", "-" + "9" * 400,
    "9" * 5000, "0." + "1" * 3000, "1" * 309 + "e-300", "1e999", "-1e999", "[1e308, 1e309, -1E309]", "1e-999", "1e+0000000005",
    "01", "-01", "00000000000000000000001", "1.", ".5", "-", "1e", "1e+", "0x10", "1_000", "1" * 30 + ".5", "0" * 400,
    '"\\ud800"', '"\\udfff x"', '"\\ud83d\\ude00"', '"\\ude00\\ud83d"', '"\\ud83d\\ud83d\\ude00"', '"\\ud83d\\udbff"', '"\\uD83D"', '"\\ud83dx"',
    '"\\\\ud800"', '"\\u0000"', '"a\\u0000b"', '"\\u000"', '"\\ud83d\\u0041"', '{"\\ud800": 1}', '{"a\\u0000": [2]}',
    '{"\\u0000": "\\ud800"}', '"\\u0001\\u001f\\u007f"', '"\\x41"', '"\\', '"\\u', '"\\ud800', '"\\ud800\\', '"\\ud800\\u',
    '{"a": 1, "a": 2}', '{"a": {"b": 1}, "a": {"c": NaN}}', '{"a": 1, "b": 2, "a": 3}',
    '"\u2028\u2029\u0085"', '"tab\there"', '"line\nhere"', '"\x7f"', '"\x00"', "\x00", "{}\x00", '["a"]\x00\x00',
    "\ufeff{}", "\ufeff\ufeff{}", '["\ufeff"]', "\ufeff", "", " ", "\r\n", '{"a":\r\n1}\r\n', '{"a":\r1}\r', "[1]\n\n", "\u00a0[1]",
    "\x0b[1]", "\x0c[1]", "[1]\x85", "[1] x", "[1] [2]", "{} {}", "[1,]", "[,1]", '{"a":1,}', '{"a" 1}', "{'a': 1}", '{a: 1}', '{"a": }',
    "{", "[", "}", "]", "[}", '{"a": 1]', "True", "None", "tru", "truex", "[1 2]", "// x\n1", "/* x */ 1", "[1] // x", "undefined", "1;",
    "[" * 200 + "]" * 200, '{"a":' * 200 + "1" + "}" * 200, "[" * 300, '"' + "x" * 5000 + '"', '"\\/\\b\\f\\n\\r\\t"', '"\\a"',
]


def canonical(value):
    def odd(what):
        return {ODD: what}

    if isinstance(value, dict):
        return {key.translate({0: ODD, **{c: ODD for c in range(0xD800, 0xE000)}}): canonical(v) for key, v in value.items()}
    if isinstance(value, list):
        return [canonical(v) for v in value]
    if isinstance(value, str):
        halves = [c for c in value if 0xD800 <= ord(c) < 0xE000]
        if halves:
            return odd(f"text with U+{ord(halves[0]):04X}, half a character")
        return odd("text with a NUL character") if "\0" in value else value
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, Number):
        return odd(value.what)
    return float(value)


class Number:
    """A number that no double holds, as it was spelt."""

    def __init__(self, text):
        self.what = text if text in ("NaN", "Infinity", "-Infinity") else \
            (text if len(text) <= 20 else text[:20] + "...") + ", too large a number"


def real(text):
    return Number(text) if float(text) in (float("inf"), float("-inf")) else float(text)


def whole(text):
    value = int(text)
    return value if abs(value) < 2**64 or abs(value) < 10**308 else real(text)


def number(value):
    text = f"{value:.17g}"
    if not set(text) & set(".e"):
        text += ".0"
    head, e, exponent = text.partition("e")
    return head + (e + str(int(exponent)) if e else "")


class Encoder(json.JSONEncoder):
    def iterencode(self, o, _one_shot=False):
        return json.encoder._make_iterencode({}, self.default, json.encoder.encode_basestring_ascii, None, number, ":", ",", False, False,
                                             False)(o, 0)


def show(text):
    try:
        raw = text.encode() or b" "
    except UnicodeEncodeError:
        return
    try:
        value = json.loads(text.removeprefix("\ufeff"), parse_float=real, parse_int=whole, parse_constant=Number)
        # jansson leaves DEL as it is.
        print(raw.hex(), "".join(Encoder().iterencode(canonical(value))).replace("\\u007f", "\x7f"))
    except ValueError:
        print(raw.hex(), "-")


for text in table:
    show(text)

draw = random.Random(int(sys.argv[1]))
atoms = ["NaN", "-Infinity", "Infinity", "1e999", "12345678901234567890123", "-9223372036854775808", "0", "1.5", "true", "null", '"x"',
         '"\\ud800"', '"\\u0000"', '"\\ud83d\\ude00"', '"\\\\"', '"\\""', '"\u00e4\u4e2d"', "1e-400", "-0.0", "1" * 320]
keys = ['"a"', '"b"', '"\\ud800"', '"k\\u0000"', '"\\""', '""', '"NaN"']


def value(depth):
    kind = draw.randrange(4) if depth < 4 else 0
    blank = draw.choice(["", " ", "\n", "\r\n", "\t"])
    if kind < 2:
        return blank + draw.choice(atoms)
    items = [value(depth + 1) for _ in range(draw.randrange(4))]
    if kind == 2:
        return blank + "[" + ",".join(items) + blank + "]"
    return "{" + ",".join(draw.choice(keys) + blank + ":" + item for item in items) + "}" + blank


for _ in range(int(sys.argv[2])):
    text = value(0)
    show(text)
    if text:
        at = draw.randrange(len(text))
        cut = draw.choice(["", draw.choice('{}[]",:\\u0019eE+-.NI \n\r\t')])
        show(text[:at] + cut + text[at + draw.randrange(2):])
        show(text[:at])
