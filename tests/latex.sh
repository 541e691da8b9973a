# Dumps in LaTeX compile. The golden files stand for the dumps: test_dump keeps them the same.
# shellcheck shell=sh
. "$ADTAPE_SOURCE/tests/tap.sh"

if ! command -v pdflatex >/dev/null; then
    skip 'dumps in LaTeX compile' 'there is no pdflatex (Debian: texlive-latex-base)'
    finish
fi

# compile FILE: as part of a document, without a word from TeX that something is wrong.
compile() {
    {
        printf '%s\n' '\documentclass{article}' '\usepackage{amsmath,longtable}' '\begin{document}'
        cat -- "$1"
        printf '%s\n' '\end{document}'
    } >document.tex
    pdflatex -interaction=nonstopmode -halt-on-error document.tex </dev/null >log.txt 2>&1 || {
        grep -A 5 '^!' log.txt
        return 1
    }
    ! grep 'LaTeX Warning: .*undefined\|Missing character' log.txt
}

for dump in "$ADTAPE_SOURCE"/tests/golden/*.tex; do
    check "${dump##*/} compiles" compile "$dump"
done

if [ "$ADTAPE_COMMAND" = yes ]; then
    cat >many.txt <<'EOF'
a = sum(sigmoid(x) ^ 3.5 / (1 + erf(x)) ^ 2 + logaddexp(x, x))
b = sum(leaky_relu(x, 0.1) * gelu(x) + hypot(x, x))
d = sum(layer_norm(x, [1, 1, 1], [0, 0, 0])); e = norm(gather(x, [1, 0], axis=0))
a + b + d + e + sum(softmax(where(x > 1, x, x)) @ x) + sum(slice(cumprod(x, axis=0), axis=0, start=1))
EOF
    write_many() { "$ADTAPE_BUILD/tools/adtape/adtape" trace - x=[1,2,0.5] -f latex -o many.tex <many.txt; }
    if check 'adtape writes LaTeX' write_many; then check 'of formulas of many kinds, it compiles' compile many.tex; fi
fi
finish
