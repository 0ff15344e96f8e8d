#!/usr/bin/env python3
"""Lists every code point to which PCRE2 and Hugging Face's `tokenizers` give different classes: the
source of coordinator/tokenizer/character_classes.h and of YOUNG in make_reference.py.

  apt-get install libpcre2-8-0; pip install tokenizers==0.23.3
"""

import ctypes
import itertools

from tokenizers import pre_tokenizers

WORDS = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
DIGITS = pre_tokenizers.Digits(individual_digits=True)
UTF, UCP = 0x00080000, 0x00020000


def reference_class(c):
    """Asks GPT-2's rule which character `c` joins."""
    for before, name in (("a", "letter"), ("1", "number"), ("!", "other")):
        if len(WORDS.pre_tokenize_str(before + c)) == 1:
            return name
    return "space"


class Pcre2:
    def __init__(self):
        self.library = ctypes.CDLL("libpcre2-8.so.0")
        for name in ("compile", "match_data_create"):
            getattr(self.library, f"pcre2_{name}_8").restype = ctypes.c_void_p
        self.data = ctypes.c_void_p(self.library.pcre2_match_data_create_8(1, None))
        self.patterns = [(name, self.compile(p)) for name, p in
                         (("letter", rb"\p{L}"), ("number", rb"\p{N}"), ("space", rb"\s"))]

    def compile(self, pattern):
        error, offset = ctypes.c_int(), ctypes.c_size_t()
        return ctypes.c_void_p(self.library.pcre2_compile_8(
            pattern, ctypes.c_size_t(len(pattern)), UTF | UCP, ctypes.byref(error), ctypes.byref(offset),
            None))

    def character_class(self, c):
        text = c.encode()
        for name, code in self.patterns:
            if self.library.pcre2_match_8(code, text, ctypes.c_size_t(len(text)), ctypes.c_size_t(0), 0,
                                          self.data, None) > 0:
                return name
        return "other"


def ranges(code_points):
    groups = itertools.groupby(enumerate(code_points), lambda pair: pair[1] - pair[0])
    for _, group in groups:
        members = [code_point for _, code_point in group]
        yield f"{members[0]:X}-{members[-1]:X}"


def main():
    pcre2, different = Pcre2(), {}
    for code_point in itertools.chain(range(0xD800), range(0xE000, 0x110000)):
        c = chr(code_point)
        ours, theirs = pcre2.character_class(c), reference_class(c)
        if ours != theirs:
            different.setdefault(f"PCRE2 {ours}, reference {theirs}", []).append(code_point)
        if len(DIGITS.pre_tokenize_str("a" + c)) == 2 and theirs != "number":
            different.setdefault(f"Digits splits, reference {theirs}", []).append(code_point)
    for kind, code_points in different.items():
        print(f"{kind}: {len(code_points)}\n  {' '.join(ranges(code_points))}")


if __name__ == "__main__":
    main()
