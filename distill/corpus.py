"""distill corpus: training text from Debian packages, as packed token ids with a held-out part.

Fetches the packages of a list, takes their prose, drops every paragraph seen before, and writes
train.bin.xz, held_out.bin.xz and sources.md (package, version, licence, tokens). Needs `tokenizers`.
"""

import hashlib
import pathlib
import sys

import numpy as np

from . import packages, plain_text, token_file
from .errors import UserError

HELD_OUT_EVERY = 200  # documents
MIN_DOCUMENT = 300  # characters


class Deduplicator:
    def __init__(self):
        self._seen = set()

    def is_new(self, paragraph):
        key = hashlib.blake2b("".join(paragraph.lower().split()).encode(), digest_size=8).digest()
        if key in self._seen:
            return False
        self._seen.add(key)
        return True


def documents(folder, seen, limit):
    """Up to `limit` characters of new prose, a document a file (a large file makes several)."""
    total = 0
    for path in sorted(folder.rglob("*")):
        text = plain_text.read(path)
        if text is None:
            continue
        kept, size = [], 0
        for paragraph in plain_text.paragraphs(text):
            if seen.is_new(paragraph):
                kept.append(paragraph)
                size += len(paragraph)
            if size > 20000:
                yield "\n\n".join(kept)
                total, kept, size = total + size, [], 0
        if size >= MIN_DOCUMENT:
            yield "\n\n".join(kept)
            total += size
        if total > limit:
            return


def _is_held_out(document):
    return int.from_bytes(hashlib.blake2b(document.encode(), digest_size=4).digest(),
                          "little") % HELD_OUT_EVERY == 0


def _encode(tokenizer, texts, separator):
    parts = []
    for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
        parts.append(np.array([*encoding.ids, separator], np.uint16))
    return np.concatenate(parts) if parts else np.zeros(0, np.uint16)


def build(names, scratch, tokenizer, separator, limit):
    """(train ids, held-out ids, table rows)."""
    seen, train, held_out, rows = Deduplicator(), [], [], []
    for name in names:
        deb = packages.fetch(name, scratch)
        folder = scratch / "unpacked" / name
        version = packages.unpack(deb, folder)
        texts = list(documents(folder, seen, limit))
        kept = _encode(tokenizer, [t for t in texts if not _is_held_out(t)], separator)
        held = _encode(tokenizer, [t for t in texts if _is_held_out(t)], separator)
        train.append(kept)
        held_out.append(held)
        rows.append((name, version, packages.licences(folder, name), len(kept) + len(held)))
        print(f"corpus: {name} {version}: {rows[-1][3]} tokens", file=sys.stderr, flush=True)
    return np.concatenate(train), np.concatenate(held_out), rows


def _sources(rows, train, held_out):
    lines = [f"{train} training tokens, {held_out} held out; no paragraph occurs twice.", "",
             "| package | version | licence | tokens |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {n} | {v} | {l} | {t} |" for n, v, l, t in rows]) + "\n"


def add_arguments(parser):
    parser.add_argument("--packages", required=True, metavar="FILE", help="names, one a line")
    parser.add_argument("--tokenizer", required=True, metavar="DIR", help="holds tokenizer.json")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--scratch", required=True, metavar="DIR", help="for downloads; kept")
    parser.add_argument("--separator", type=int, default=0, help="id after a document (default 0)")
    parser.add_argument("--limit", type=int, default=24, metavar="MB", help="of text a package")


def run(args):
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise UserError("the package `tokenizers` is missing: pip install tokenizers") from None
    tokenizer = Tokenizer.from_file(str(pathlib.Path(args.tokenizer) / "tokenizer.json"))
    vocab = tokenizer.get_vocab_size()
    if vocab > 1 << 16:
        raise UserError(f"tokenizer: {vocab} ids do not fit 16 bits")
    out, scratch = pathlib.Path(args.out), pathlib.Path(args.scratch)
    scratch.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    train, held_out, rows = build(packages.read_list(args.packages), scratch, tokenizer,
                                  args.separator, args.limit << 20)
    for name, ids in (("train", train), ("held_out", held_out)):
        size = token_file.write(out / name, ids, vocab, args.separator, compress=True)
        print(f"corpus: {name}: {len(ids)} tokens, {size / 2**20:.1f} MiB", file=sys.stderr)
    (out / "sources.md").write_text(_sources(rows, len(train), len(held_out)), encoding="utf-8")
    return 0
