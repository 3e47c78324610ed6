#!/bin/sh
# Fails when tests/meson.build does not name a test that lies in tests/FLOOR, so that nobody would run it.
#   check_listed.sh ROOT
set -eu
cd "${1:?usage: check_listed.sh ROOT}/tests"
found=0
for file in */test_*.c */*/test_*.c; do
    name=$(basename "$file" .c)
    if ! grep -q "'${name#test_}'" meson.build; then
        echo "tests/$file: '${name#test_}' is not in tests/meson.build"
        found=1
    fi
done
exit "$found"
