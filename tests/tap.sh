# tap.sh: what the shell tests have in common. Each of them begins with
#
#     . "$ADTAPE_SOURCE/tests/tap.sh"
#
# runs in an empty folder of its own, calls the functions below, and ends with `finish`. tests/meson.build says what
# else is in the environment.
# shellcheck shell=sh disable=SC2034 # the scripts use `output`
set -u
: "${ADTAPE_SOURCE:?}" "${ADTAPE_BUILD:?}"

tap_count=0
tap_folder=$(mktemp -d) && cd -- "$tap_folder" || exit 1
trap 'cd / && rm -rf -- "$tap_folder"' EXIT
trap 'exit 1' HUP INT TERM

pass() {
    tap_count=$((tap_count + 1))
    printf 'ok %d - %s\n' "$tap_count" "$1"
}

# fail NAME [TEXT]: TEXT explains.
fail() {
    tap_count=$((tap_count + 1))
    printf 'not ok %d - %s\n' "$tap_count" "$1"
    if [ $# -gt 1 ]; then printf '%s\n' "$2" | sed 's/^/# /'; fi
}

skip() {
    tap_count=$((tap_count + 1))
    printf 'ok %d - %s # SKIP %s\n' "$tap_count" "$1" "$2"
}

# check NAME COMMAND...: the command succeeds; what it printed is then in `output`, without final newlines.
check() {
    tap_name=$1
    shift
    if output=$("$@" 2>&1); then
        pass "$tap_name"
    else
        fail "$tap_name" "exit status $? of: $*
$output"
        return 1
    fi
}

# check_fails NAME STATUS COMMAND...: the command ends with this exit status; its output is in `output`.
check_fails() {
    tap_name=$1
    tap_expected=$2
    shift 2
    tap_status=0
    output=$("$@" 2>&1) || tap_status=$?
    if [ "$tap_status" = "$tap_expected" ]; then
        pass "$tap_name"
    else
        fail "$tap_name" "exit status $tap_status, not $tap_expected, of: $*
$output"
        return 1
    fi
}

# check_equal NAME EXPECTED ACTUAL
check_equal() {
    if [ "$2" = "$3" ]; then
        pass "$1"
    else
        printf '%s\n' "$2" >"$tap_folder/expected"
        printf '%s\n' "$3" >"$tap_folder/actual"
        fail "$1" "$(diff -u "$tap_folder/expected" "$tap_folder/actual" | tail -n +4)"
        return 1
    fi
}

# check_has NAME TEXT PART...: TEXT has every PART in it, in this order.
check_has() {
    tap_name=$1
    tap_text=$2
    tap_rest=$2
    shift 2
    for tap_part; do
        case $tap_rest in
        *"$tap_part"*) tap_rest=${tap_rest#*"$tap_part"} ;;
        *)
            fail "$tap_name" "there is no '$tap_part' (in this place) in:
$tap_text"
            return 1
            ;;
        esac
    done
    pass "$tap_name"
}

finish() {
    printf '1..%d\n' "$tap_count"
    exit 0
}
