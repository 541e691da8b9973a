#!/bin/sh
# page.sh FOLDER: the page of HTML dumps as C, on standard output. FOLDER/page.html with FOLDER/page.css in place of the
# line @style@ and the scripts in place of @script@, cut in two at @data@. The library carries the page in itself, so that
# a program finds it wherever it runs.
set -eu
LC_ALL=C
export LC_ALL
cd -- "$1"

# The order of the scripts: each uses what is above it.
scripts='data.js math.js value.js difference.js list.js stage.js page.js'

# bytes NAME: standard input as an array.
bytes() {
    printf 'const unsigned char %s[] = {\n' "$1"
    od -An -v -tu1 | sed 's/^ *//; s/ *$//; s/  */,/g; s/$/,/'
    printf '};\nconst size_t %s_size = sizeof %s;\n' "$1" "$1"
}

page() {
    # shellcheck disable=SC2086 # the names have no blanks
    awk -v scripts="$scripts" '
        function put(file,    line) { while ((getline line < file) > 0) print line; close(file) }
        $0 == "@style@" { put("page.css"); next }
        $0 == "@script@" { n = split(scripts, name, " "); for (i = 1; i <= n; i++) put(name[i]); next }
        { print }' page.html
}

printf '/* Made by tools/page.sh from autodiff/dump/page. */\n#include "autodiff/dump/page.h"\n\n'
page | sed '/^@data@$/,$d' | bytes ad_page_head
page | sed '1,/^@data@$/d' | bytes ad_page_tail
