"""Text out of Debian packages, by apt-get download: nothing is installed and nothing of them runs."""

import pathlib
import re
import subprocess

from .errors import UserError

_KNOWN_LICENCES = ("GFDL", "GPL", "LGPL", "Apache", "BSD", "MIT", "Artistic", "CC-BY-SA", "CC-BY",
                   "PSF", "Expat", "public domain", "Public Domain", "WordNet", "MPL")


def read_list(path):
    """Package names, one a line; # starts a comment."""
    lines = (line.split("#")[0].strip() for line in pathlib.Path(path).read_text().splitlines())
    return [line for line in lines if line]


def fetch(name, folder):
    """The newest .deb of `name`, downloaded into `folder` if it is not there."""
    found = sorted(folder.glob(f"{name}_*.deb"))
    if not found:
        done = subprocess.run(["apt-get", "download", "-q", name], cwd=folder, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        found = sorted(folder.glob(f"{name}_*.deb"))
        if not found:
            raise UserError(f"package {name}: apt-get download: {done.stdout.strip()[-300:]}")
    return found[-1]


def unpack(deb, folder):
    """The package's files under `folder`; returns its version."""
    if not folder.exists():
        folder.mkdir(parents=True)
        subprocess.run(["dpkg-deb", "-x", deb, folder], check=True)
    return subprocess.run(["dpkg-deb", "-f", deb, "Version"], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.strip()


def licences(folder, name):
    """What the package's copyright file names, shortened."""
    path = folder / "usr/share/doc" / name / "copyright"
    text = path.read_text("utf-8", "replace") if path.is_file() else ""
    stated = dict.fromkeys(re.findall(r"^License:[ \t]*(\S[^\n]{0,60})", text, re.M))
    if not stated:
        stated = [known for known in _KNOWN_LICENCES if known in text]
    return ", ".join(list(stated)[:4]) or "see its copyright file"
