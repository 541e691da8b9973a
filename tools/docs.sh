#!/bin/sh
# docs.sh [--check] BUILD: writes again, or only compares, what a build's programs and the sources make of the
# documentation, in the source tree that is the current directory:
#
#     docs/ops.md    all of it, by tools/op_table
#     any page       each block after a line <!-- code of FILE -->, or <!-- output of PROGRAM ARGUMENT... --> with a
#                    program of examples/ or tools/; and in each ```console block what follows a command, a line that
#                    begins with "$ " and may go on behind a final \ on the next: they run in an empty folder, one for each
#                    page, in which `adtape` is that of the build
set -eu

check=
if [ "${1:-}" = --check ]; then
    check=yes
    shift
fi
build=$1
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
status=0

# replace FILE NEW
replace() {
    if cmp -s "$1" "$2"; then return 0; fi
    if [ -n "$check" ]; then
        echo "$1 is stale: run ./dev docs"
        diff -u "$1" "$2" || status=1
    else
        cp -- "$2" "$1"
        echo "wrote $1"
    fi
}

# block_for code|output WORD...: what belongs into the block.
block_for() {
    kind=$1
    shift
    if [ "$kind" = code ]; then
        cat -- "$1"
        return
    fi
    program=$1
    shift
    for folder in tools examples; do
        if [ -x "$build/$folder/$program" ]; then "$build/$folder/$program" "$@"; fi
    done
}

# write_blocks PAGE: the page with its blocks written again.
write_blocks() {
    sed -n 's/^<!-- \(code\|output\) of \(.*\) -->$/\1 \2/p' "$1" >"$scratch/wanted"
    number=0
    while read -r wanted; do
        number=$((number + 1))
        # shellcheck disable=SC2086 # a command line
        block_for $wanted >"$scratch/block.$number" </dev/null
        [ -s "$scratch/block.$number" ]
    done <"$scratch/wanted"
    awk -v block="$scratch/block" '
        { if (!skipping) print }
        /^<!-- (code|output) of .* -->$/ { file = block "." ++number }
        /^```/ {
            if (skipping) { skipping = 0; print; next }
            if (file == "") next
            while ((getline line < file) > 0) print line
            skipping = 1
            file = ""
        }' "$1"
}

# run_command TEXT: what it prints, mistakes included.
run_command() {
    mkdir -p "$scratch/session"
    (cd "$scratch/session" && PATH="$build/tools/adtape:$PATH" sh -c "$1" </dev/null 2>&1) || true
}

# write_sessions PAGE: the page with the outputs in its ```console blocks written again.
write_sessions() {
    rm -rf "$scratch/session"
    inside=
    while IFS= read -r line; do
        case $inside$line in
        yes'$ '*)
            command=${line#'$ '}
            printf '%s\n' "$line"
            while [ "${line%\\}" != "$line" ] && IFS= read -r line; do
                printf '%s\n' "$line"
                command=${command%\\}$line
            done
            run_command "$command"
            ;;
        yes'```')
            inside=
            echo '```'
            ;;
        yes*) ;;
        *)
            if [ "$line" = '```console' ]; then inside=yes; fi
            printf '%s\n' "$line"
            ;;
        esac
    done <"$1"
}

build=$(cd -- "$build" && pwd)
"$build/tools/op_table" >"$scratch/ops.md"
replace docs/ops.md "$scratch/ops.md"
for page in README.md docs/*.md docs/lessons/*.md; do
    write_blocks "$page" >"$scratch/blocks.md"
    write_sessions "$scratch/blocks.md" >"$scratch/page.md"
    replace "$page" "$scratch/page.md"
done
exit $status
