# adtape as a meson subproject of somebody's project: a copy of the sources in subprojects/, no wrap, no installation.
# The copy has an op more, as new-op writes it, because one build is enough.
. "$ADTAPE_SOURCE/tests/tap.sh"
: "${ADTAPE_CC:?}" "${ADTAPE_VERSION:?}"

if [ -n "${ADTAPE_SANITIZE:-}" ]; then
    skip 'a project builds with adtape as its subproject' 'as without sanitizers'
    finish
fi

mkdir -p 'outer project/subprojects/adtape' && cd 'outer project' || exit 1
for part in autodiff bench examples meson.build meson_options.txt ops tests tools; do
    cp -R "$ADTAPE_SOURCE/$part" subprojects/adtape/ || exit 1
done
check 'new-op adds an op' sh -c 'cd subprojects/adtape && tools/new-op.sh cube' || finish
cat >meson.build <<'END'
project('outer', 'c', default_options: ['c_std=c11', 'warning_level=3', 'werror=true'])
adtape = dependency('adtape', fallback: 'adtape', default_options: ['default_library=static'])
test('uses', executable('uses', 'uses.c', dependencies: adtape))
END
cat >uses.c <<'END'
#include <adtape.h>

/* 3^2, as the skeleton computes, its derivative, and whether the op keeps every law on its samples. */
int main(void) {
    ad_check_report report;
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_scalar(t, "x", 3.0), y = ad_cube(x);
    ad_backward(y);
    bool right = ad_item(y) == 9.0 && ad_gradient_item(x) == 6.0 && ad_tape_status(t) == AD_OK;
    ad_tape_free(t);
    ad_op_check(ad_op_find("cube"), NULL, &report);
    (void)!ad_check_print(&report, stdout);
    return !right || report.status != AD_OK || report.compared == 0;
}
END

check 'a project configures with adtape as its subproject' env CC="$ADTAPE_CC" meson setup build -Dadtape:isa= ||
    finish
check_has 'it finds the version' "$output" "adtape" "$ADTAPE_VERSION"
check 'it builds without a warning' meson compile -C build || finish
check 'its program runs, and the new op keeps every law' meson test -C build
check_equal "adtape's own tests and examples are not built" '' "$(find build -name 'test_*' -o -name digits)"
check 'it installs' env DESTDIR="$tap_folder/stage" meson install -C build --quiet
check_equal 'the library is installed, and no program' './adtape.h
./adtape.pc
./libadtape.a' "$(cd "$tap_folder/stage" && find . -type f ! -path '*/adtape/*' | sed 's:/.*/:/:' | LC_ALL=C sort)"
finish
