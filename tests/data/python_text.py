"""What Python makes of text: a line "TEXT LOWER CAPITALIZED STRIPPED ENDED" in hexadecimal UTF-8 for each of many,
"TEXT" alone where the others are the same.

python_text.py RANGES: a file of "FIRST LAST" lines, the code points that the caller's Unicode knows. Libraries know
different versions of Unicode: only characters that both sides know, and that become such, are compared.
"""
import random
import sys
import unicodedata

known = []
for line in open(sys.argv[1]):
    first, last = map(int, line.split())
    known += [chr(point) for point in range(first, last + 1) if unicodedata.category(chr(point)) not in ("Cn", "Cs", "Co")]
every = set(known)


def show(text):
    forms = [text, text.lower(), text.capitalize(), text.strip(), text.rstrip()]
    if forms == 5 * [text]:
        print(text.encode().hex() or "-")
    elif all(every.issuperset(form) for form in forms):
        print(*(form.encode().hex() or "-" for form in forms))


for c in known:
    show(c)
# Whether a character is cased and whether it may stand between a letter and a sigma decides how the sigma ends.
for i in range(0, len(known), 16):
    show(" ".join(f"a\u03a3{c} {c}\u03a3 a{c}\u03a3 a\u03a3{c}a" for c in known[i : i + 16]))
# Some of them in all orders.
letters = "\u03a3\u03a3\u03a3aA\u00df\u0130\u0301\u00ad'\u2019:.\u02b0 \u3000\x1c1\ufb01\u01c5\u1e9e\u1f88\U00010400\U0001f600\u0345"
draw = random.Random(1)
for _ in range(20000):
    show("".join(draw.choice(letters) for _ in range(draw.randrange(12))))
