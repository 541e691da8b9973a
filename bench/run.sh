#!/bin/sh
# run.sh BUILD [ROUNDS]: runs the benchmark programs of a build and, where it is installed, the same cases in PyTorch, in
# turn (A B A B ...), and prints the medians over the rounds, their spread and the ratio. First both must agree on what
# they compute. ADTAPE_BENCH_PYTHON names the Python that has PyTorch; the default is python3.
set -eu

build=$1
rounds=${2:-5}
here=$(cd -- "$(dirname -- "$0")" && pwd)
python=${ADTAPE_BENCH_PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
# These slow a peer's BLAS down or speed it up behind our back; one thread each.
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

adtape() { for program in scalar models; do "$build/bench/$program" "$@"; done; }
torch() { "$python" "$here/torch_peer.py" "$@" && "$python" "$here/peers/torch_models.py" "$@"; }

peer=
if "$python" -c 'import torch' 2>/dev/null; then
    peer=$("$python" -c 'import torch; print("PyTorch", torch.__version__)')
fi

adtape check >"$scratch/ours.check"
if [ -n "$peer" ]; then
    torch check >"$scratch/theirs.check"
    awk -F '\t' '
        NR == FNR { ours[$1] = $3; next }
        { scale = ours[$1] < 0 ? -ours[$1] : ours[$1]; d = ours[$1] - $3; if (d < 0) d = -d }
        !($1 in ours) || !(d <= 1e-3 * scale) { printf "%s: adtape %s, peer %s\n", $1, ours[$1], $3; bad = 1 }
        END { exit bad }' "$scratch/ours.check" "$scratch/theirs.check" || {
        echo 'run.sh: adtape and its peer do not compute the same; their speeds cannot be compared' >&2
        exit 1
    }
    echo "adtape and $peer agree on every case; one thread each; medians of $rounds rounds, in turn"
else
    echo "PyTorch is not installed (pip install torch==2.13.0): adtape alone, medians of $rounds rounds"
fi

round=0
while [ "$round" -lt "$rounds" ]; do
    round=$((round + 1))
    printf 'round %d of %d\n' "$round" "$rounds" >&2
    adtape | sed 's/^/ours	/' >>"$scratch/lines"
    if [ -n "$peer" ]; then torch | sed 's/^/theirs	/' >>"$scratch/lines"; fi
done

# Numbers of one case and side arrive sorted, so the median is in the middle.
sort -t '	' -k2,2 -k1,1 -k4,4g "$scratch/lines" | awk -F '\t' '
    { key = $2 SUBSEP $1; unit[$2] = $3; value[key, ++n[key]] = $4 }
    function median(key) {
        return n[key] % 2 ? value[key, (n[key] + 1) / 2] : (value[key, n[key] / 2] + value[key, n[key] / 2 + 1]) / 2
    }
    END {
        for (name in unit) {
            ours = name SUBSEP "ours"; theirs = name SUBSEP "theirs"
            line = sprintf("%-30s %-6s %9.4g  %9.4g .. %-9.4g", name, unit[name], median(ours), value[ours, 1],
                           value[ours, n[ours]])
            if (theirs in n)
                line = line sprintf(" %9.4g  %9.4g .. %-9.4g %6.1fx", median(theirs), value[theirs, 1],
                                    value[theirs, n[theirs]], median(theirs) / median(ours))
            sub(/ +$/, "", line)
            print line
        }
    }' | sort >"$scratch/table"
printf '\n%-30s %-6s %9s  %-22s' case unit adtape 'least .. most'
if [ -n "$peer" ]; then printf ' %9s  %-22s %6s' PyTorch 'least .. most' ratio; fi
printf '\n'
cat -- "$scratch/table"
