# The benchmarks' runner: it measures, writes what it measured, refuses to compare what differs, and says what is missing.
# Nothing here depends on how fast anything is.
# shellcheck shell=sh
. "$ADTAPE_SOURCE/tests/tap.sh"

if [ "$ADTAPE_BENCH" != yes ]; then
    skip 'the benchmarks' 'they are not built'
    finish
fi
if ! command -v python3 >/dev/null; then
    skip 'the benchmarks' 'there is no python3'
    finish
fi
export ADTAPE_BENCH_SECONDS=0.001 PYTHONDONTWRITEBYTECODE=1
tab=$(printf '\t')
programs=$ADTAPE_BUILD/bench

# ---- the programs --------------------------------------------------------------------------------------------------

# lines_of PROGRAM ARGUMENT...: how many lines it prints, or the first that is not a result.
# shellcheck disable=SC2317 # `check` calls it
lines_of() {
    program=$1
    shift
    "$programs/$program" "$@" >lines || return 1
    awk -F '\t' '
        !(NF == 3 || NF == 5) || $1 == "" || $2 == "" || $3 !~ /^-?[0-9.]+(e[-+][0-9]+)?$/ { print; bad = 1; exit }
        END { if (!bad) print NR; exit bad }' lines
}
for try in 'floor 2 fma' 'scalar 3 ops=1e3' 'gemm 4 64x' 'ops 3 small' 'ops 2 exp f32 n=64Ki' 'sweep 2 width=16' \
    'jacobians 2 jacobian' \
    'models 8 16-1 step, batch'; do
    program=${try%% *} rest=${try#* }
    count=${rest%% *} only=${rest#* }
    if check "$program measures" lines_of "$program" --only "$only"; then
        check_equal "all of '$only'" "$count" "$output"
    fi
done
check 'programs use threads' lines_of gemm --threads 2 --only 'n=64'
check 'a program computes what is checked' lines_of scalar --only ops=1e3 check
check_equal 'the derivative of a chain' "scalar f64 record ops=1e3${tab}dy/dx${tab}0.9995001247" "$(head -n 1 lines)"
check_fails 'a program refuses what it does not know' 1 "$programs/scalar" --colour
check_has 'and says what it knows' "$output" '--colour' '[--threads N] [--only TEXT] [check]'

# ---- a run -----------------------------------------------------------------------------------------------------------

# shellcheck disable=SC2317 # `check` calls it
bench() { python3 "$ADTAPE_SOURCE/bench/run.py" "$ADTAPE_BUILD" --threads 1 --json "$tap_folder/out.json" "$@"; }

check 'every goal is about a case' python3 -c '
import pathlib, sys
sys.path.insert(0, sys.argv[1] + "/bench")
import goals, results
measured = results.read(pathlib.Path(sys.argv[1]) / "docs/performance/results.json")
known = {(case.name, case.threads) for case in measured.cases}
sys.exit([goal.case for goal in goals.GOALS if (goal.case, goal.threads) not in known] or None)
' "$ADTAPE_SOURCE"
check 'a run without peers' bench 2 --peers none --only ops=1e3
check_has 'shows how far it is' "$output" '[1/' 'checking adtape (gemm)' 'round 2 of 2: adtape (gemm), 1 thread'
check_has 'and medians with their spread, and the floor' "$output" 'medians of 2 rounds' 'scalar f64 record ops=1e3' 'ns/op' \
    '..' 'x the floor' 'scalar f64 memory ops=1e3' 'B/op'
check 'the results are JSON' python3 -c '
import json, sys
data = json.load(open(sys.argv[1]))
case = data["cases"][0]
assert data["names"] == {"adtape": "adtape"} and data["rounds"] == 2 and data["refused"] == []
assert data["floors"]["1"]["fma f32"] > 0 and case["name"] == "scalar f64 record ops=1e3" and case["bytes"] == 20
assert 0 < case["sides"]["adtape"]["least"] <= case["sides"]["adtape"]["median"] <= case["sides"]["adtape"]["most"]
' out.json
check_fails 'no case of that name' 1 bench 1 --peers none --only 'no such case'
check_has 'is said' "$output" "there is no case with 'no such case'"
check_fails 'an unknown peer' 2 bench --peers tensorflow
check_has 'is refused' "$output" "there is no peer 'tensorflow'" 'torch' 'adolc'
check_fails 'no rounds' 2 bench 0
check_fails 'a build without programs' 1 python3 "$ADTAPE_SOURCE/bench/run.py" "$tap_folder" --peers none
check_has 'is told to be built' "$output" 'build it first'

# ---- peers -----------------------------------------------------------------------------------------------------------

# peer NAME: a program from standard input; `check` comes to it as the last argument.
peer() {
    { echo '#!/bin/sh' && cat; } >"$1"
    chmod +x "$1"
}
line="printf '%s\\t%s\\t%s\\n'"
peer right <<END
case "\$*" in
*check) $line 'scalar f64 record ops=1e3' dy/dx 0.99950012 'scalar f64 back ops=1e3' dy/dx 0.9995002 ;;
*) $line 'scalar f64 record ops=1e3' ns/op 1e9 'scalar f64 back ops=1e3' ns/op 1e-9 ;;
esac
END
check 'a peer that computes the same' bench 1 --peers none --only ops=1e3 --peer "right=$tap_folder/right"
check_has 'is compared' "$output" 'scalar f64 record' 'right' 'x as long' 'right, 1 thread: ahead in 1 of 2 cases' \
    'behind' 'scalar f64 back ops=1e3'

check 'a peer that is a build' bench 1 --peers none --only '1 step, batch' --peer "before=$ADTAPE_BUILD"
check_has 'is compared in all it does' "$output" 'step, batch 1: hvp' 'before' 'of 8 cases'

peer wrong <<END
case "\$*" in
*check) $line 'scalar f64 record ops=1e3' dy/dx 0.9995001 'scalar f64 back ops=1e3' dy/dx 0.998 ;;
*) $line 'scalar f64 record ops=1e3' ns/op 7 'scalar f64 back ops=1e3' ns/op 123.4 ;;
esac
END
check_fails 'a peer that computes something else' 1 bench 1 --peers none --only ops=1e3 --peer "wrong=$tap_folder/wrong"
check_has 'is refused where it does' "$output" 'not compared: wrong: scalar f64 back ops=1e3: dy/dx is 0.998, that of adtape 0.9995001'
check_has 'and compared elsewhere' "$output" 'wrong, 1 thread: ahead in' 'of 1 cases'
check_equal 'what differs is not in the results' 0 "$(grep -c 123.4 out.json)"

peer unchecked <<END
case "\$*" in
*check) ;;
*) $line 'scalar f64 record ops=1e3' ns/op 7 ;;
esac
END
check_fails 'a peer that was not checked' 1 bench 1 --peers none --only ops=1e3 --peer "other=$tap_folder/unchecked"
check_has 'is not compared' "$output" 'scalar f64 record ops=1e3: nothing shows that it computes the same'

peer broken <<END
case "\$*" in
*check) $line 'scalar f64 record ops=1e3' dy/dx 0.9995001 'scalar f64 back ops=1e3' dy/dx 0.9995001 ;;
*) $line 'scalar f64 record ops=1e3' ns/op 1234 ;;
esac
echo 'out of luck' >&2
exit 3
END
check_fails 'a peer that fails' 1 bench 1 --peers none --only ops=1e3 --peer "broken=$tap_folder/broken"
check_has 'does not end the run' "$output" 'one round' 'not compared: broken:' 'exit status 3: out of luck'
check_has 'and what it did before counts' "$output" 'scalar f64 record' '1234' 'broken, 1 thread: ahead in 1 of 1 cases'
check_fails 'a peer that is not there' 1 bench 1 --peers none --only ops=1e3 --peer "gone=$tap_folder/gone"
check_has 'neither' "$output" 'one round' 'gone does not start'
peer babble <<END
$line 'scalar f64 record ops=1e3' ns/op nan
END
check_fails 'a peer that prints no numbers' 1 bench 1 --peers none --only ops=1e3 --peer "babble=$tap_folder/babble"
check_has 'is refused' "$output" 'printed what is not a result'
check_fails 'a peer needs a command' 2 bench --peer name

# ---- what is missing -------------------------------------------------------------------------------------------------

# A Python of its own has no packages, and a compiler that fails no headers.
if python3 -m venv --without-pip bare >/dev/null 2>&1; then
    # shellcheck disable=SC2317 # `check` calls it
    bare() { env CXX=false PYTHONPATH= bare/bin/python3 "$ADTAPE_SOURCE/bench/run.py" "$ADTAPE_BUILD" "$@"; }
    check 'nothing is installed' bare 1 --only ops=1e3 --threads 1 --json out.json
    check_has 'each peer is named, and how to get it' "$output" 'PyTorch is left out: pip install torch' 'torch.compile' \
        'libtorch' 'JAX is left out: pip install jax' 'ADOL-C is left out: apt install libadolc-dev' \
        'OpenBLAS is left out: apt install libopenblas-dev' 'one round' 'pip install matplotlib'
else
    skip 'nothing is installed' 'python3 makes no environments'
fi
check 'variables that change a peer are ignored' env OPENBLAS_CORETYPE=Prescott python3 "$ADTAPE_SOURCE/bench/run.py" \
    "$ADTAPE_BUILD" 1 --peers none --only ops=1e3 --threads 1 --json out.json
check_has 'and said' "$output" 'OPENBLAS_CORETYPE=Prescott is set, and ignored'

# ---- the page --------------------------------------------------------------------------------------------------------

check 'docs/performance.md is what its results make of it' python3 "$ADTAPE_SOURCE/bench/page.py" check
mkdir -p copy/docs && cp -R "$ADTAPE_SOURCE/bench" copy/ && cp "$ADTAPE_SOURCE/docs/performance.md" copy/docs/
check 'results go into the page' python3 copy/bench/run.py "$ADTAPE_BUILD" --write-docs --json out.json
check_has 'as a table' "$(cat copy/docs/performance.md)" 'GFLOP/s' '| scalar f64 record ops=1e3 |'
check 'it is then up to date' python3 copy/bench/page.py check
sed -i.bak 's/^| scalar f64 record ops=1e3 | /&9/' copy/docs/performance.md
check_fails 'a changed number is noticed' 1 python3 copy/bench/page.py check
check_has 'and said' "$output" 'docs/performance.md is stale'
finish
