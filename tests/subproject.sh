# adtape as a meson subproject of somebody's project: a copy of the sources in subprojects/, no wrap, no installation.
. "$ADTAPE_SOURCE/tests/tap.sh"
: "${ADTAPE_CC:?}" "${ADTAPE_VERSION:?}"

if [ -n "${ADTAPE_SANITIZE:-}" ]; then
    skip 'a project builds with adtape as its subproject' 'the build is the same as without sanitizers'
    finish
fi

mkdir -p 'outer project/subprojects/adtape' && cd 'outer project' || exit 1
for part in autodiff bench examples meson.build meson_options.txt ops tests tools; do
    cp -R "$ADTAPE_SOURCE/$part" subprojects/adtape/ || exit 1
done
cat >meson.build <<'END'
project('outer', 'c', default_options: ['c_std=c11', 'warning_level=3', 'werror=true'])
adtape = dependency('adtape', fallback: 'adtape', default_options: ['default_library=static'])
test('uses', executable('uses', 'uses.c', dependencies: adtape))
END
cat >uses.c <<'END'
#include <adtape.h>

int main(void) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_scalar(t, "x", 3.0);
    ad_backward(ad_mul(x, x));
    int wrong = ad_gradient_item(x) != 6.0;
    ad_tape_free(t);
    return wrong;
}
END

check 'a project configures with adtape as its subproject' env CC="$ADTAPE_CC" meson setup build || finish
check_has 'it finds the version' "$output" "adtape" "$ADTAPE_VERSION"
check 'it builds without a warning' meson compile -C build || finish
check 'its program runs' meson test -C build
check_equal "adtape's own tests and examples are not built" '' "$(find build -name 'test_*' -o -name digits)"
check 'it installs' env DESTDIR="$tap_folder/stage" meson install -C build --quiet
check_equal 'the library is installed, and no program' 'adtape.h adtape.pc libadtape.a' \
    "$(cd "$tap_folder/stage" && find . -type f ! -path '*/adtape/*' | sed 's:.*/::' | LC_ALL=C sort | tr '\n' ' ' | sed 's/ $//')"
finish
