"""long_stream.py ADDRESS FILE: one long stream that has to end well; FILE appears when it has begun."""
import pathlib
import sys

import client

TOKENS = 1500


def main():
    address, begun = sys.argv[1], pathlib.Path(sys.argv[2])
    answer = client.generate(address, b"a krait", TOKENS, on_first_token=begun.touch)
    assert answer.code == "OK" and len(answer.tokens) == TOKENS, (answer.code, len(answer.tokens), answer.details)
    print(f"images: a stream of {TOKENS} tokens ended well while its coordinator went", file=sys.stderr)


if __name__ == "__main__":
    main()
