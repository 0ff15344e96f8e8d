#!/usr/bin/env bash
# Runs everything labelled gpu from a bundle (deploy/bundle.sh), on a machine with a GPU, and prints one
# table; --help says how to run less, or under a sanitizer.
exec python3 "$(dirname "$0")/run_tests.py" "$@"
