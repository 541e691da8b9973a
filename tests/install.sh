# The installed library as a stranger's program meets it: pkg-config, headers, shared and static linking, symbols.
. "$ADTAPE_SOURCE/tests/tap.sh"
: "${ADTAPE_CC:?}" "${ADTAPE_VERSION:?}"

# A plain word splits into a command and its arguments: both may have several.
# shellcheck disable=SC2086
c() { $ADTAPE_CC ${ADTAPE_SANITIZE:-} -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror "$@"; }
case $ADTAPE_CC in *clang*) cxx=clang++ ;; *) cxx=g++ ;; esac
# shellcheck disable=SC2086
cpp() { ${CXX:-$cxx} ${ADTAPE_SANITIZE:-} -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror "$@"; }
pc() { pkg-config --define-variable=prefix="$prefix" "$@"; }

# ---- meson install -------------------------------------------------------------------------------------------------

check 'meson install' env DESTDIR="$tap_folder/stage" meson install -C "$ADTAPE_BUILD" --no-rebuild --quiet || finish
header=$(find "$tap_folder/stage" -name adtape.h)
prefix=${header%/include/adtape.h}
include=$prefix/include
found=$(find "$prefix" -name adtape.pc)
PKG_CONFIG_PATH=${found%/adtape.pc}
libraries=${PKG_CONFIG_PATH%/pkgconfig}
export PKG_CONFIG_PATH
if ! command -v pkg-config >/dev/null; then
    skip 'a program is built through pkg-config' 'there is no pkg-config'
    finish
fi
check 'pkg-config knows adtape' pc --modversion adtape
check_equal 'pkg-config gives the version' "$ADTAPE_VERSION" "$output"

# ---- programs ------------------------------------------------------------------------------------------------------

cat >program.c <<'END'
#include <adtape.h>
#include <stdio.h>

int main(void) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), ((double[]){3, 4}));
    ad_var y = ad_sum(ad_mul(x, x), AD_ALL_AXES, false);
    ad_backward(y);
    ad_view g = ad_gradient(x);
    printf("%g: %g %g %s\n", ad_item(y), ad_view_get(&g, 0), ad_view_get(&g, 1), ad_tape_error(t));
    ad_tape_free(t);
    return 0;
}
END
cat >program.cpp <<'END'
#include <adtape.h>
#include <iostream>

int main() {
    ad_tape *t = ad_tape_new(nullptr);
    const double data[] = {3, 4};
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), data);
    ad_var y = ad_sum(ad_mul(x, x), AD_AXES(0), false);
    ad_backward(ad_sum(y, AD_ALL_AXES, AD_KEEPDIM));
    ad_view g = ad_gradient(x);
    std::cout << ad_item(y) << ": " << ad_view_get(&g, 0) << ' ' << ad_view_get(&g, 1) << ' ' << ad_tape_error(t)
              << '\n';
    ad_tape_free(t);
}
END
expected='25: 6 8 '

# runs NAME PROGRAM: it prints what it should.
runs() {
    check "$1: runs" env LD_LIBRARY_PATH="$libraries" "./$2" && check_equal "$1: is right" "$expected" "$output"
}

# The flags of pkg-config are words.
# shellcheck disable=SC2046
shared_program() {
    name=$1 compiler=$2 standard=$3 source=$4
    check "$name: builds" "$compiler" "-std=$standard" "$source" -o "$standard" $(pc --cflags --libs adtape) &&
        runs "$name" "$standard"
}
# shellcheck disable=SC2046
static_program() {
    check "$1: builds" "$2" "-std=$3" "$4" -o static $(pc --cflags adtape) "$libraries/libadtape.a" \
        $(pc --libs-only-other --static adtape) -lm &&
        runs "$1" static
}

if [ -e "$libraries/libadtape.so" ]; then
    shared_program 'a C11 program on the shared library' c c11 program.c
    shared_program 'a C++17 program on the shared library' cpp c++17 program.cpp
    shared_program 'a C++11 program on the shared library' cpp c++11 program.cpp
fi
if [ "${ADTAPE_CBLAS:-no}" = yes ]; then
    skip 'static linking' 'OpenBLAS wants libraries of its own, which may not be here'
elif [ -e "$libraries/libadtape.a" ]; then
    static_program 'a C11 program on the static library' c c11 program.c
    static_program 'a C++17 program on the static library' cpp c++17 program.cpp
fi

# ---- headers -------------------------------------------------------------------------------------------------------

# Twice, to see the guard.
for path in "$include"/adtape.h "$include"/adtape/*.h; do
    header=${path#"$include"/}
    printf '#include <%s>\n#include <%s>\nint unused_;\n' "$header" "$header" >alone.c
    cp alone.c alone.cpp
    check "$header alone is C11" c -std=c11 -Wstrict-prototypes -Wundef -I "$include" -fsyntax-only alone.c
    check "$header alone is C++11" cpp -std=c++11 -Wundef -I "$include" -fsyntax-only alone.cpp
done

# Every function that the headers declare AD_API, one a line.
declared() {
    cat "$include"/adtape.h "$include"/adtape/*.h | sed '/^ *#/d' | tr '\n' ' ' | tr ';' '\n' |
        sed -n 's/.*AD_API[^(]*[ *]\(ad_[a-z0-9_]*\)(.*/\1/p' | LC_ALL=C sort
}
check_equal 'every header is installed' \
    "$(cd "$ADTAPE_SOURCE/autodiff/include" && find . -name '*.h' | LC_ALL=C sort)" \
    "$(cd "$include" && find . -name '*.h' | LC_ALL=C sort)"

# ---- the shared library --------------------------------------------------------------------------------------------

if ! [ -e "$libraries/libadtape.so" ]; then finish; fi
check_equal 'libadtape.so leads to the version' "libadtape.so.$ADTAPE_VERSION" \
    "$(basename "$(readlink -f "$libraries/libadtape.so")")"
check_has 'the soname is versioned' "$(readelf -d "$libraries/libadtape.so")" '(SONAME)' '[libadtape.so.0]'
if [ -n "${ADTAPE_SANITIZE:-}" ]; then
    skip 'exported symbols' 'a sanitizer adds its own'
    skip 'undefined symbols' 'a sanitizer adds its own'
    finish
fi
check_equal 'exported is exactly what the headers declare' "$(declared)" \
    "$(nm -D --defined-only "$libraries/libadtape.so" | awk '{ print $NF }' | LC_ALL=C sort)"
if [ "${ADTAPE_CBLAS:-no}" = yes ]; then
    skip 'undefined symbols' 'this build uses a CBLAS library'
    skip 'linked libraries' 'this build uses a CBLAS library'
else
    check_equal 'nothing but the C library is needed' '' \
        "$(nm -D --undefined-only "$libraries/libadtape.so" | awk '$1 != "w" && $NF !~ /@GLIBC_/ { print $NF }')"
    check_equal 'libc and libm are all that is linked' '' \
        "$(readelf -d "$libraries/libadtape.so" | awk '/NEEDED/ && !/\[(libc|libm|libpthread|ld-linux.*)\.so/')"
fi

# ---- the command ---------------------------------------------------------------------------------------------------

if [ "$ADTAPE_COMMAND" = yes ]; then
    check 'the command is installed, and runs' env LD_LIBRARY_PATH="$libraries" "$prefix/bin/adtape" grad 'x * x' x=3
    check_equal 'with a manual page and completions' '_adtape adtape adtape.1' "$(cd "$prefix/share" &&
        find man/man1 bash-completion/completions zsh/site-functions -type f | sed 's:.*/::' | LC_ALL=C sort | tr '\n' ' ' |
        sed 's/ $//')"
fi
finish
