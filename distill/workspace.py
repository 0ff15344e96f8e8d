"""Where a command that may be cut off keeps what it has: --work, read again by the next call, and
figures.json there and in --out."""

import json
import pathlib
import shutil
import time

from .errors import UserError
from .train import device_of


class Workspace:
    """--input holds base.gguf (or base.gguf.part-*) and packed tokens; `deadline`: time.monotonic."""

    def __init__(self, args):
        self.args, self.device = args, device_of()
        self.input, self.work = pathlib.Path(args.input), pathlib.Path(args.work)
        self.out = pathlib.Path(args.out)
        self.start = time.monotonic()
        self.deadline = self.start + args.seconds - args.reserve
        self.work.mkdir(parents=True, exist_ok=True)
        self.out.mkdir(parents=True, exist_ok=True)
        self.base = self._join_base()
        written = self.work / "figures.json"
        self.figures = json.loads(written.read_text()) if written.exists() else {}

    def _join_base(self):
        whole = self.input / "base.gguf"
        if whole.exists():
            return whole
        joined, parts = self.work / "base.gguf", sorted(self.input.glob("base.gguf.part-*"))
        if not joined.exists():
            if not parts:
                raise UserError(f"{whole}: missing, and so are its parts")
            with open(self.work / "base.partial", "wb") as out:
                for part in parts:
                    with open(part, "rb") as file:
                        shutil.copyfileobj(file, out)
            (self.work / "base.partial").rename(joined)
        return joined

    def note(self, **figures):
        self.figures.update(figures)
        text = json.dumps(self.figures, indent=2) + "\n"
        for folder in (self.work, self.out):
            (folder / "figures.json").write_text(text)

    def copy_log(self, name):
        log = self.work / name / "log.tsv"
        if log.exists():
            shutil.copyfile(log, self.out / f"{name}.tsv")

    def late(self):
        return time.monotonic() > self.deadline


def add_arguments(parser):
    parser.add_argument("--input", required=True, metavar="DIR")
    parser.add_argument("--work", required=True, metavar="DIR")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--seconds", type=float, default=570, help="of this call (default 570)")
    parser.add_argument("--reserve", type=float, default=30, help="of them, for writing at the end")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--windows", type=int, default=64, help="of held-out text, evaluated")
    parser.add_argument("--reply-tokens", type=int, default=192)
    parser.add_argument("--generate-batch", type=int, default=2048)
    parser.add_argument("--separator", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true")
