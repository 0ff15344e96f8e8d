"""Paragraphs of prose from the formats that documentation comes in."""

import gzip
import html
import re

_BLOCK = re.compile(r"</?(?:p|div|li|ul|ol|h[1-6]|td|tr|table|dd|dt|dl|section|article|para|title|"
                    r"simpara|listitem|blockquote|item|page|br)\b[^>]*>", re.I)
_DROPPED = re.compile(r"<(script|style|head|nav|pre|svg|footer|programlisting|screen|code)\b.*?</\1>",
                      re.S | re.I)
_INLINE_CODE = re.compile(r"</?code\b[^>]*>", re.I)
_TAG = re.compile(r"<[^>]*>")
_MAN_FONT = re.compile(r"\\f[BIRP]|\\f\(..|\\&|\\\|")
_MAN_KEPT = re.compile(r"^\.(?:B|I|BR|IR|BI|RB|RI|SM|SH|SS|TP|Nm|Nd)\s+(.*)$")
_POD_CODE = re.compile(r"[A-Z]<+\s*([^<>]*?)\s*>+")


def from_html(text):
    text = _INLINE_CODE.sub("", text)
    text = _DROPPED.sub("\n\n", text)
    text = _TAG.sub("", _BLOCK.sub("\n\n", text))
    return html.unescape(text)


def from_man(text):
    lines = []
    for line in text.splitlines():
        if line.startswith((".PP", ".P", ".LP", ".IP", ".TP", ".SH", ".SS")):
            lines.append("")
        kept = _MAN_KEPT.match(line)
        if kept:
            lines.append(kept[1].replace('"', ""))
        elif not line.startswith((".", "'")):
            lines.append(line)
    return _MAN_FONT.sub("", "\n".join(lines)).replace("\\-", "-").replace("\\(aq", "'")


def from_pod(text):
    parts, inside = [], text.lstrip().startswith("=")
    for block in re.split(r"\n\s*\n", text):
        if block.startswith("="):
            inside = not block.startswith("=cut")
            block = re.sub(r"^=\w+\s*", "", block)
        if inside and not block.startswith((" ", "\t")):
            parts.append(_POD_CODE.sub(r"\1", block))
    return "\n\n".join(parts)


_READERS = {".html": from_html, ".htm": from_html, ".xhtml": from_html, ".xml": from_html,
            ".page": from_html, ".pod": from_pod, ".txt": str, ".md": str, ".rst": str, ".dz": str,
            ".info": str, ".texi": str, ".text": str}


def read(path):
    """The file's text, or None if it is no format that is read."""
    suffixes = [s for s in path.suffixes if s != ".gz"]
    suffix = suffixes[-1].lower() if suffixes else ""
    is_man = "/man/" in str(path) and re.fullmatch(r"\.[1-9]\w*", suffix)
    is_fortune = "/games/fortunes/" in str(path) and not suffix
    reader = from_man if is_man else str if is_fortune else _READERS.get(suffix)
    if reader is None or path.is_symlink() or not path.is_file():
        return None
    opened = gzip.open if path.suffix in (".gz", ".dz") else open
    try:
        with opened(path, "rb") as file:
            return reader(file.read(64 << 20).decode("utf-8", "replace"))
    except (OSError, EOFError):
        return None


def _is_prose(paragraph):
    letters = sum(c.isalpha() or c == " " for c in paragraph)
    return (len(paragraph) >= 60 and letters >= 0.8 * len(paragraph) and paragraph.count(" ") >= 8
            and "\ufffd" not in paragraph)


def paragraphs(text):
    """Paragraphs of prose, each on one line. English has no accents to speak of: others go."""
    for block in re.split(r"\n[ \t]*\n", text):
        paragraph = " ".join(block.split())
        if _is_prose(paragraph) and sum(ord(c) > 127 for c in paragraph) <= 0.02 * len(paragraph):
            yield paragraph
