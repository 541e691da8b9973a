# The dev script: how it sets a machine up, what it counts, and how it writes the skeleton of an op; subproject.sh builds
# one.
. "$ADTAPE_SOURCE/tests/tap.sh"
dev=$ADTAPE_SOURCE/dev

# ---- commands ------------------------------------------------------------------------------------------------------

check 'help' "$dev" help
check_has 'help names the commands' "$output" demo test bench asan valgrind new-op format ci
check 'no command means help' "$dev"
check_fails 'an unknown command is refused' 1 "$dev" tets
check_has 'and named' "$output" "there is no command 'tets'"

# ---- what is missing -----------------------------------------------------------------------------------------------

# A machine without clang-format. On it apt-get installs one that changes nothing, but only after an update; what it was
# asked is in the file `asked`. Who one is, is in the file `uid`, and whether sudo works without a password in `sudoer`.
machine=$tap_folder/machine
mkdir "$machine"
for tool in sh env cat awk sed tr mktemp rm head dirname basename cut chmod cmp grep true xargs; do
    for folder in /usr/bin /bin; do
        if [ -x "$folder/$tool" ] && ! [ -e "$machine/$tool" ]; then ln -s "$folder/$tool" "$machine/$tool"; fi
    done
done
program() { # program NAME: from standard input
    { echo '#!/bin/sh' && cat; } >"$machine/$1"
    chmod +x "$machine/$1"
}
program id <<'END'
cat uid
END
program sudo <<'END'
[ -e sudoer ] || exit 1
shift
echo "sudo $*" >>asked
exec "$@"
END
program apt-get <<'END'
echo "apt-get $*" >>asked
case " $* " in
*' update '*) echo yes >updated ;;
*' clang-format '*)
    [ -e updated ] || exit 100
    printf '#!/bin/sh\nexec cat "$1"\n' >machine/clang-format
    chmod +x machine/clang-format
    ;;
esac
END
# The folder in which the script starts is where the machine's files are; the script goes to its own.
sed -i.bak "s|cat uid|cat '$tap_folder/uid'|" "$machine/id"
for name in sudo apt-get; do
    sed -i.bak "s|sudoer|'$tap_folder/sudoer'|; s|asked|'$tap_folder/asked'|; s|updated|'$tap_folder/updated'|g
                s|machine/|$machine/|g" "$machine/$name"
done
format_check() { env PATH="$machine" "$machine/sh" "$dev" format --check; }
reset_machine() { rm -f "$machine/clang-format" asked updated sudoer; }
asked() { if [ -e asked ]; then tr '\n' ';' <asked; fi; }
install='apt-get -q -y install --no-install-recommends clang-format;'

echo 0 >uid
check 'root: what is missing is installed' format_check
check_has 'it says so' "$output" 'installing clang-format'
check_equal 'with the package lists fetched when they are needed' "${install}apt-get -q -y update;${install}" "$(asked)"
check 'what is there is not installed again' format_check
check_equal 'apt-get is not asked' "${install}apt-get -q -y update;${install}" "$(asked)"

reset_machine
echo 1000 >uid
check_fails 'a user without rights is told what to install' 1 format_check
check_has 'word for word' "$output" 'sudo apt-get install -y clang-format'
check_equal 'and nothing is tried' '' "$(asked)"

reset_machine
: >sudoer
check 'a user with rights installs through sudo' format_check
check_has 'as sudo' "$(asked)" 'sudo env DEBIAN_FRONTEND=noninteractive apt-get'

reset_machine
echo 0 >uid
program apt-get <<'END'
exit 0
END
check_fails 'a package that does not help is no endless loop' 1 format_check
check_has 'it says which' "$output" 'installed clang-format, and still'
rm "$machine/apt-get"
check_fails 'a machine without apt-get' 1 format_check
check_has 'gets the names' "$output" 'please install' 'clang-format'

# ---- counting ------------------------------------------------------------------------------------------------------

# tally NAME OUTCOME TEXT...: what is counted for one program that printed these lines.
tally() {
    program=$1 outcome=$2
    shift 2
    {
        printf '==== 1/1 ====\ntest:         %s\nresult:       %s\n---- stdout ----\n' "$program" "$outcome"
        printf '%s\n' "$@"
        printf '%s\n' '======='
    } >testlog
    rm -f counts
    output=$(awk -v command=./dev\ test -v counts=counts -f "$ADTAPE_SOURCE/tools/tally.awk" testlog)
    cat counts
}
check_equal 'results are counted' '2 0' "$(tally a 'exit status 0' 'ok 1 - x' 'ok 2' 1..2)"
check_equal 'skipped ones are neither passed nor failed' '1 0' \
    "$(tally a 'exit status 0' 'ok 1' 'ok 2 - x # SKIP why' 1..2)"
check_equal 'failures are counted' '1 2' "$(tally a 'exit status 1' 'not ok 1' 'ok 2' 'not ok 3 - x' 1..3)"
check_equal 'a bad end is a failure' '1 1' "$(tally a 'exit status 3' 'ok 1' 1..1)"
check_equal 'so is a signal' '0 1' "$(tally a 'killed by signal 11 SIGSEGV' '')"
check_equal 'so are results that are missing' '1 1' "$(tally a 'exit status 0' 1..2 'ok 1')"
check_equal 'so is the missing number of results' '1 1' "$(tally a 'exit status 0' 'ok 1')"
check_equal 'a failure is not counted twice' '0 1' "$(tally a 'exit status 1' 1..2 'not ok 1')"
tally shape 'exit status 1' 1..1 'not ok - shape::counts  (0.01s)' '  why it failed' >/dev/null
check_has 'a failure shows how to see it again, and why' "$output" \
    'FAILED  shape: shape::counts' './dev test shape shape/counts' 'why it failed'

# ---- a new op ------------------------------------------------------------------------------------------------------

mkdir 'a copy' && cd 'a copy' || exit 1
for part in autodiff meson.build meson_options.txt ops tools; do
    cp -R "$ADTAPE_SOURCE/$part" . || exit 1
done
header=autodiff/include/adtape/ops.h
cp "$header" ../before.h
new_op() { tools/new-op.sh "$@"; }
check_fails 'new-op needs a name' 1 new_op
check_fails 'new-op wants a C name' 1 new_op '2nd'
check_fails 'new-op wants a small name' 1 new_op Cube
check_fails 'new-op refuses an op that is there' 1 new_op softmax
check_fails 'new-op refuses the name of a function' 1 new_op leaf
check_has 'and says why' "$output" 'the name is taken'
check_equal 'refusing changes nothing' '' "$(diff ../before.h "$header")"
check 'new-op' new_op cube
check_equal 'the header gets a constructor and a row, and nothing else changes' \
    '> #define ad_cube(...) ad_cube_at(AD_HERE, __VA_ARGS__) /* x^2, elementwise */
> AD_API ad_var ad_cube_at(const char *where, ad_var x);
>
>     X(cube) \' \
    "$(diff ../before.h "$header" | grep '^[<>]' | sed 's/  *\\$/ \\/; s/ *$//')"
check_fails 'a second one of that name is refused' 1 new_op cube
finish
