#!/bin/sh
# glob.sh DIRECTORY PATTERN...: the files in DIRECTORY that match, one a line, in the same order on every machine.
# Meson has no globbing; the build lists its sources with this so that a new file needs no edit of the build.
set -eu
LC_ALL=C
export LC_ALL
cd -- "$1"
shift
for pattern; do
    # shellcheck disable=SC2086 # the pattern is to be expanded
    for file in $pattern; do
        if [ -e "$file" ]; then printf '%s\n' "$file"; fi
    done
done
