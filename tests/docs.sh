# The documentation is true: its programs build and print what it says, its links lead somewhere, what is generated is
# what would be generated now; and the sources keep to what a machine can check of their style.
. "$ADTAPE_SOURCE/tests/tap.sh"
: "${ADTAPE_CC:?}" "${ADTAPE_EXAMPLES:?}" "${ADTAPE_COMMAND:?}"
cd -- "$ADTAPE_SOURCE" || exit 1

# ---- what programs make --------------------------------------------------------------------------------------------

if [ "$ADTAPE_EXAMPLES$ADTAPE_COMMAND" = yesyes ] && [ -e "$ADTAPE_BUILD/libadtape.a" ]; then
    check 'what programs make of the docs is up to date' \
        env CC="$ADTAPE_CC" tools/docs.sh --check "$ADTAPE_BUILD"
else
    skip 'what programs make of the docs is up to date' 'the examples, the command or the static library are not built'
fi

# Every ```c block of the page is in the program as it stands there, so it is compiled and run with it.
quoted() {
    awk -v page="$1" '
        FNR == NR { program = program $0 "\n"; next }
        /^```c$/ { block = ""; inside = 1; start = FNR; next }
        /^```$/ && inside {
            inside = 0
            blocks++
            if (!index(program, block)) { print page ":" start ": this block is not in the program"; bad = 1 }
            next
        }
        inside { block = block $0 "\n" }
        END { if (!blocks) print page ": no block"; exit bad || !blocks }' "$2" "$1"
}
check 'the code of adding-an-op.md is that of the example' quoted docs/adding-an-op.md examples/custom_op.c
check 'the code of derivatives.md is that of the example' quoted docs/derivatives.md examples/derivatives.c

# ---- links ---------------------------------------------------------------------------------------------------------

# The anchors that a page has, as GitHub makes them from its headings.
anchors() {
    sed -n '/^```/,/^```/!s/^##* *//p' "$1" | tr 'A-Z ' 'a-z-' | sed 's/[^a-z0-9_-]//g'
}
# Lines "PAGE TARGET" for each link of the pages that is not to another site.
links() {
    for page in *.md docs/*.md docs/lessons/*.md; do
        grep -o '](\([^)]*\))' "$page" | sed 's/^](//; s/)$//' | grep -v '^[a-z]*:' | sed "s|^|$page |"
    done
}
dead_links() {
    links | while read -r page target; do
        path=${target%%#*}
        if [ -n "$path" ]; then path=$(dirname "$page")/$path; else path=$page; fi
        if ! [ -e "$path" ]; then
            echo "$page: there is no $target"
        elif [ "$target" != "${target#*#}" ] && ! anchors "$path" | grep -qx -- "${target#*#}"; then
            echo "$page: no such heading: $target"
        fi
    done
}
check_equal 'every link leads somewhere' '' "$(dead_links)"

# ---- headers -------------------------------------------------------------------------------------------------------

# A function is documented where it is declared: by a comment in its paragraph.
undocumented() {
    awk '
        function look() {
            if (paragraph ~ /AD_API/ && paragraph !~ /\/\*/) print file ": " name
            paragraph = name = ""
        }
        FNR == 1 { look(); file = FILENAME }
        /^$/ { look(); next }
        /^#define AD_API/ { next }
        { paragraph = paragraph $0 "\n" }
        /AD_API/ && name == "" { name = $0 }
        END { look() }' autodiff/include/adtape/*.h
}
check_equal 'every public function has a comment' '' "$(undocumented)"

# ---- style ---------------------------------------------------------------------------------------------------------

code() {
    tools/glob.sh . 'autodiff/*/*.[ch]' 'autodiff/include/*/*.h' 'ops/*.[ch]' 'ops/kernels/*.[ch]' 'bench/*.*' \
        'examples/*.[ch]' 'tests/*.[ch]' 'tests/*.sh' 'tools/*.*' 'tools/adtape/*.*' dev .ci/run '*.build' '*/meson.build'
}
# lines_with PATTERN: the first few lines of code that match.
lines_with() { code | LC_ALL=C.UTF-8 xargs grep -nE "$1" | cut -c 1-120 | head -n 20; }

tab=$(printf '\t')
check_equal 'no tabs to indent' '' "$(lines_with "^ *$tab")"
check_equal 'no blanks at the end of a line' '' "$(lines_with ' $')"
check_equal 'nothing is left to be done' '' "$(lines_with '\b(TO[D]O|FIX[M]E|XX[X])\b')"
finish
