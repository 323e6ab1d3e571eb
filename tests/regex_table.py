# SPDX-License-Identifier: Apache-2.0
"""Writes tests/regex_table.h: what Python's re makes of patterns, for tests/test_names.c.

usage: python3 tests/regex_table.py >tests/regex_table.h   (Python 3.11 or newer)
"""
import random
import re
import warnings

NAMES = [
    "model.layers.10.self_attn.q_proj.weight",
    "transformer.h.0.attn.c_attn.bias",
    "module.embed.weight",
    "lm_head.weight",
    "aaab",
    "",
    "größe.Ω_1.weight",
    "a-b c[0]{1}|x\ny",
]

PATTERNS = [
    "layers", r"^module\.", r"weight$", r"\.weight\Z", r"\Aaa", r"layers\.(\d+)\.", r"(?P<block>h|layers)\.(?P<n>\d+)",
    r"(q|k|v)_proj", r"(?i)WEIGHT", r"(?s)x.y", r"x.y", r"(?m)^y$", r"a{,2}", r"a{2,}", r"a{1,2}?", r"a{,}b", r"a{x}", r"a+?b", r"(a)|(b)",
    r"(?:aa)+b", r"(?=a)a", r"(?!a)\w", r"(?<=a)b", r"(?<!a)b", r"(?#comment)aa", r"(a)\1", r"(?P<x>a)(?P=x)",
    r"[^.]+$", r"[]x]", r"[^]a]", r"[[0]", r"[[:alpha:]", r"[a\-b]", r"[\w.]+", r"[^\W_]+", r"\w+", r"\d", r"\D+", r"\s", r"\S+", r"\bweight\b",
    r"\Baa", r"ö", r"[ö-ß]", r"Ω", r"(?i)ω", r"(?i)GRÖSSE", r"\x61", r"[\x61-\x62]+", r"\t|\n", r"\v", r"\f|\r|\a", r"\{1\}", r"\|", r"\/",
    r"x*", r"", r"()", r"(?:)", r"$", r"^", r"(a*)*", r"(a*)+b", r"(?>a+)b", r"a++b", r"a*+a", r"(a)?b\1", r"(?(1)a|b)", r"(x)?(?(1)y|a)", r"(?i:MODULE)\.",
    r"(?x) module \. # what DDP adds", r"\101", r"\0", r"(a)(a)(a)(b)", r"a|ab|abc", r"0*1", r"[.-]", r"[a-]", r"\.(\d+)\.(?:attn|self_attn)\.",
    # wrong in Python
    "(", ")", "[", "a**", "*a", "+", "?", r"\Q", r"\K", r"\h", r"\R", r"\z", r"\G", r"\p{L}", r"\N", r"\k<x>", r"\g<1>", r"(?<x>a)", r"(?|a|b)", r"(?R)",
    r"(?1)", r"(?&x)", r"(?P>x)", r"(?C)", "(*FAIL)", "(*UTF)a", "(*LIMIT_MATCH=1)a", "a{2,1}", "[b-a]", r"(?P<1>a)", r"\2", r"(?P=x)", r"(?<=a+)b",
    "\\", "[\\", r"[\A]", r"[\Z]", r"[\B]", r"(?", r"(?P", r"(?z)", r"(?P<x>a)(?P<x>b)", r"\x6", r"(?#", "a(?#b",
]

SUBSTITUTIONS = [  # pattern, template
    (r"layers\.(\d+)\.", r"h.\1."), (r"(?P<block>h|layers)\.(?P<n>\d+)", r"\g<n>.\g<block>"), (r"a", r"\\"), (r"x*", "-"), (r"", "."),
    (r"(a)|(b)", r"<\1\2>"), (r"$", ".x"), (r"\.", "/"), (r"^module\.", ""), (r"(\w+)\.(\w+)", r"\2.\1"), (r"a*", r"[\g<0>]"), (r"\b", "|"),
    (r"weight", r"\g<0>_\g<0>"), (r"(?i)[A-Z]", "ä"), (r"Ω", r"\g<0>\g<0>"), (r"a(?=a)", "b"), (r"(a*?)", "-"), (r"(\d)(\d)?", r"\g<1>\g<2>0"),
]

PIECES = ["a", "b", ".", r"\.", r"\d", r"\w", "[ab]", "[^a]", "x", "_", "weight", "0", "^", "$", r"\b"]


def random_pattern(rng, depth):
    kind = rng.randrange(6 if depth else 2)
    if kind < 2:
        return rng.choice(PIECES)
    if kind == 2:
        return random_pattern(rng, depth - 1) + random_pattern(rng, depth - 1)
    if kind == 3:
        return "(" + random_pattern(rng, depth - 1) + "|" + random_pattern(rng, depth - 1) + ")"
    if kind == 4:
        return "(?:" + random_pattern(rng, depth - 1) + ")" + rng.choice(["*", "+", "?", "*?", "+?", "{1,2}", "{,2}"])
    return "(" + random_pattern(rng, depth - 1) + ")" + rng.choice(["", "?"])


def quote(text):
    out = []
    for byte in text.encode():
        plain = 32 <= byte < 127 and chr(byte) not in '"\\?'
        out.append(chr(byte) if plain else "\\%03o" % byte)
    return '"' + "".join(out) + '"'


def compile_quietly(pattern):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return re.compile(pattern)
        except (re.error, RecursionError):
            return None


def nbytes(text):
    return len(text.encode())


def rows_of(pattern):
    compiled = compile_quietly(pattern)
    if compiled is None:
        yield "{%s, NULL, false, 0, 0, 0, 0}" % quote(pattern)
        return
    for name in NAMES:
        found = compiled.search(name)
        group = found.span(1) if found and compiled.groups and found.group(1) is not None else (0, 0)
        span = found.span() if found else (0, 0)
        numbers = [nbytes(name[:at]) for at in span + group]
        yield "{%s, %s, %s, %d, %d, %d, %d}" % (quote(pattern), quote(name), "true" if found else "false", *numbers)


def main():
    rng = random.Random(5)
    patterns = PATTERNS + [random_pattern(rng, 4) for _ in range(60)]
    print("/* SPDX-License-Identifier: Apache-2.0 */")
    print("/* Made by tests/regex_table.py from Python's re. */")
    print("/* clang-format off */")
    print("static const struct searched searched[] = {")
    for pattern in dict.fromkeys(patterns):
        for row in rows_of(pattern):
            print("    %s," % row)
    print("};\n\nstatic const struct substituted substituted[] = {")
    for pattern, template in SUBSTITUTIONS:
        for name in NAMES:
            first = re.sub(pattern, template, name, count=1)
            every = re.sub(pattern, template, name)
            print("    {%s, %s, %s, %s, %s}," % tuple(map(quote, (pattern, template, name, first, every))))
    print("};")
    print("/* clang-format on */")


if __name__ == "__main__":
    main()
