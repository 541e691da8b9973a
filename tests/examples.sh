# The example programs: what they print, and what they say when something is wrong.
# shellcheck shell=sh
. "$ADTAPE_SOURCE/tests/tap.sh"

if [ "$ADTAPE_EXAMPLES" != yes ]; then
    skip 'the examples' 'they are not built'
    finish
fi
examples=$ADTAPE_BUILD/examples
data=$ADTAPE_SOURCE/examples/data/digits.txt

# between LOW HIGH NUMBER
# shellcheck disable=SC2317 # `check` calls it
between() { awk -v low="$1" -v high="$2" -v x="$3" 'BEGIN { exit !(x ~ /^[0-9.e+-]+$/ && x + 0 >= low && x + 0 <= high) }'; }

# largest_difference TEXT: the number at its end, where hand and tape were compared.
largest_difference() { printf '%s\n' "$1" | sed -n 's/^largest difference between hand and tape: //p'; }

# ---- first, fan_out, residual_block, checkpoint, custom_op ------------------------------------------------------------------------

check 'first runs' "$examples/first"
check_has 'first shows values, gradients and the merge' "$output" 'tape: 10 nodes' \
    '[ 1.0 -0.1  0.5]' '1.162' 'seed' '[ 0.5156  0.1716 -0.6873]' \
    '[ 0.5156  0.1716 -0.6873]' '+ [ 0.0687 -0.0858  0.1030]' '= [ 0.5843  0.0858 -0.5843]' 'merge of 2'

check 'fan_out runs' "$examples/fan_out"
fan_out=$output
check 'fan_out differs from the hand by rounding at most' between 0 1e-14 "$(largest_difference "$fan_out")"
check_has 'fan_out adds up four contributions to one value' "$fan_out" 'by hand  4.786448' 'tape     4.786448' \
    '0.786' '+ 3.000' '+ 0.500' '+ 0.500' '= 4.786' 'merge of 4'
check_has 'fan_out adds up both layers that share weights' "$fan_out" \
    'tape     3.000000 -5.000000  5.000000 -7.000000' '[[-1 -1]' '+ [[ 4 -4]' '= [[ 3 -5]' 'merge of 2'
check_has 'fan_out sums over the rows that share a bias' "$fan_out" 'tape     6.000000 60.000000'

check 'residual_block runs' "$examples/residual_block"
block=$output
check 'residual_block differs from the hand by at most 1e-12' between 0 1e-12 "$(largest_difference "$block")"
# These numbers are PyTorch's.
check_has 'residual_block derives the loss through both paths' "$block" 'e ' 'hand  3.749006' 'tape  3.749006' \
    'their product' 'tape  0.070721 -0.976459  0.905737' \
    'p - p* = g' 'tape  0.070721 -0.976459  0.905737' 'de/dx4' 'tape  0.070721 -0.976459  0.905737' \
    'de/dx3' 'tape  0.000000 -0.976459  0.905737' 'de/dx2' 'tape  0.000000 -0.976459  0.905737'
check_has 'residual_block shows both gradients that merge at x' "$block" \
    'H^T M g' 'tape  0.243433 -0.236360  0.229288' 'g ' 'tape  0.070721 -0.976459  0.905737' \
    'H^T M g + g' 'tape  0.314154 -1.212819  1.135026'
check_has 'residual_block dumps the tape with its merge' "$block" 'x2 = H x' 'x 24 B for H̄' 'merge of 2'
check_has 'residual_block takes a step down' "$block" 'H - a (M g) x^T' \
    'tape  0.100000  0.200000 -0.300000  0.888229 -1.476459  0.844115  0.247131  0.105737  0.673566' \
    'v - a M g' 'tape  0.100000  0.688229 -0.152869' 'The loss falls from 3.749006 to 0.222662.'
check_equal 'residual_block shows 21 quantities by hand and by tape' '21 21' \
    "$(printf '%s\n' "$block" | grep -c ' hand  *-*[0-9]') $(printf '%s\n' "$block" | grep -c ' tape  *-*[0-9]')"

check 'residual_block writes the dump to a file' "$examples/residual_block" trace.txt
check_has 'it is the dump' "$(cat trace.txt)" 'tape: 10 nodes' 'merge of 2'
check 'residual_block writes a graph' "$examples/residual_block" trace.dot
check_has 'it is a graph' "$(cat trace.dot)" 'digraph' '->' '}'
check 'residual_block writes a page' "$examples/residual_block" trace.html
check_has 'a whole one' "$(cat trace.html)" '<!doctype html>' '"version":1' '"label":"x2"' '</html>'
check_fails 'residual_block says that it cannot write' 1 "$examples/residual_block" no/such/folder/trace.txt
check_has 'and where' "$output" 'residual_block: no/such/folder/trace.txt cannot be written'

check 'checkpoint gives the same gradient with and without' "$examples/checkpoint"
check_has 'and says what it costs' "$output" '20000 steps, each run 3.93 times in all'

check 'profile runs' "$examples/profile" trace.json
check_has 'profile shows the time by op and by scope' "$output" 'op ' 'matmul ' 'scope ' 'second ' ' ms forward, '
check_has 'and writes a trace' "$(cat trace.json)" '"traceEvents":[' '"name":"matmul","cat":"backward"' ']}'
check_fails 'profile says what it cannot write' 1 "$examples/profile" no/such/folder/trace.json

check 'custom_op runs' "$examples/custom_op"
check_has 'custom_op lets the wrong derivative be caught and explained' "$output" \
    'With the wrong' 'logcosh: WRONG' 'input 0' '2 times too large' 'With the right' 'logcosh: right'
check_has 'custom_op finds the centres' "$output" 'the mean:  9.167' 'with logcosh:  1.109'
check_has 'custom_op shows its formulas in the dump' "$output" 'v3 = log(cosh(2 * miss)) / 2' 'v̄3 * tanh(2 * miss)'

check 'gaussian_process runs' "$examples/gaussian_process"
# The first likelihood is that of PyTorch's MultivariateNormal.
check_has 'gaussian_process checks its gradient, and follows it to what is likelier' "$output" 'log p(y): right' \
    'step  0: log p(y) -17.2427' 'step 80: log p(y)   1.20' 'f(1) =  0.19' 'f(3) =  0.35'

check 'cnn checks its gradient and learns' "$examples/cnn"
check_has 'cnn recognises shapes' "$output" 'cnn: right' 'step    1: loss 1.3' 'step  200: loss 0.' '% are recognised'
check 'lstm checks its gradient and learns' "$examples/lstm"
check_has 'lstm says its sentence' "$output" 'lstm: right' 'step    1: loss 2.' 'she sells sea shells by the sea shore.'
check 'transformer checks its gradient and learns' "$examples/transformer"
check_has 'transformer reverses words' "$output" 'transformer: right' 'step    1: loss' '% of 640 other words'

# ---- newton_cg, pinn, maml, ode_fit, derivatives ----------------------------------------------------------------------------------------------

# last_number TEXT SENTENCE: what follows the sentence and a colon.
last_number() { printf '%s\n' "$1" | sed -n "s/^$2: //p"; }

check 'newton_cg runs' "$examples/newton_cg"
check 'newton_cg finds the lowest point of 10,000 variables' between 0 1e-8 \
    "$(last_number "$output" 'largest distance of an x\[i\] from 1')"
check 'pinn runs' "$examples/pinn"
check 'pinn solves the heat equation to 0.002' between 0 2e-3 \
    "$(last_number "$output" 'largest error on a grid of 33 x 33 points')"
check 'maml runs' "$examples/maml"
check_has 'maml shows what a step achieves before and after it is trained' "$output" 'untrained: before the step 0.' \
    'trained:   before the step 0.' 'after it 0.0'

check 'ode_fit runs' "$examples/ode_fit"
fitted=$output
check 'both solvers of ode_fit have the same derivative' between 0 1e-4 \
    "$(last_number "$fitted" 'largest relative difference of the two')"
check 'ode_fit finds the parameters' between 0 2e-2 "$(last_number "$fitted" 'largest relative error of a parameter')"
check 'derivatives runs' "$examples/derivatives"
check_has 'derivatives prints what the page says' "$output" 'gradient 4 -12' 'H v 2 -6 8 -4 0' \
    'tridiagonal: 13 elements in 3 products' 'penalty by w 160' 'per example 2 4 | 6 -2' 'root 1, by a -0.2'

# ---- digits -------------------------------------------------------------------------------------------------------------

check 'digits learns, run from another folder' "$examples/digits"
digits=$output
accuracy=$(printf '%s\n' "$digits" | sed -n 's/^test accuracy \([0-9.]*\) % .*/\1/p')
check "digits reads at least 97 % of the held-out images ($accuracy)" between 97 100 "$accuracy"
check_has 'digits says what it learns from, shows how far it is, and its seed' "$digits" \
    '1438 images to learn from, 359 held out for the test; seed 1' \
    'epoch   6 of 30' 'epoch  12 of 30' 'epoch  30 of 30' 'how the held-out digits were read' 'test accuracy' 'seed 1'
check_equal 'the confusion matrix holds all held-out images, and on its diagonal those that were read correctly' \
    "$(printf '%s\n' "$digits" | sed -n 's/^test accuracy .*(\([0-9]*\) of \([0-9]*\)).*/\1 \2/p')" \
    "$(printf '%s\n' "$digits" | awk '/^ +[0-9]  / && NF == 11 {
        for (i = 2; i <= 11; i++) { all += $i; if (i == $1 + 2) right += $i }
    } END { print right, all }')"
check_equal 'elsewhere than on a terminal there are only plain lines' '' \
    "$(printf '%s\n' "$digits" | tr -d '[:print:]\n')"
check_has 'the last line says where the trace is' "$(printf '%s\n' "$digits" | tail -n 1)" \
    'digits-trace.txt' 'digits-trace.dot'
check_has 'the trace is the dump of the network' "$(cat digits-trace.txt)" 'f32[1,64]' 'block1' 'block2' \
    'softmax_xent' 'loss' 'merge of 2' 'merge of 2'
check_has 'and a graph' "$(cat digits-trace.dot)" 'digraph' '->' '}'
if command -v dot >/dev/null; then
    for trace in trace.dot digits-trace.dot; do check "Graphviz draws $trace" dot -Tsvg -o drawn.svg "$trace"; done
else
    skip 'Graphviz draws the graphs' 'it is not installed'
fi

# few ARGUMENT...: two passes, which may not be enough for the claim.
few() { "$examples/digits" --epochs 2 --quiet --trace few "$@" 2>/dev/null || true; }
check_equal 'the same seed gives the same' "$(few --seed 7 && cat few.txt)" "$(few --seed 7 && cat few.txt)"
few --seed 7 >/dev/null && mv few.txt seven.txt && few --seed 8 >/dev/null
check_fails 'another seed gives something else' 1 cmp -s seven.txt few.txt
check_equal 'with --quiet there are two lines' 2 "$(few | wc -l | tr -d ' ')"

head -n 553 "$data" | sed 's/^images 1797/images 60/' >small.txt
check_fails 'digits fails when it does not learn enough' 1 "$examples/digits" --data small.txt --epochs 1
check_has 'and says so' "$output" 'test accuracy' 'digits: that is less than the 97 %'
check_fails 'digits says where it cannot write' 1 "$examples/digits" --epochs 1 --trace no/such/folder/trace
check_has 'and still shows what it achieved' "$output" 'test accuracy' 'digits: no/such/folder/trace.txt: No such'

check 'digits explains its options' "$examples/digits" --help
check_has 'all of them' "$output" usage --epochs --seed --data --trace --quiet
while IFS='|' read -r status says arguments; do
    # shellcheck disable=SC2086 # several words
    check_fails "digits $arguments: is refused" "$status" "$examples/digits" $arguments
    check_has 'and says why' "$output" "$says"
done <<'END'
1|--epochs: "0" is not a number from 1 to 1000|--epochs 0
1|--epochs: "ten" is not a number|--epochs ten
1|--epochs: "9999999999999999999999" is not a number|--epochs 9999999999999999999999
1|--seed: "-1" is not a number|--seed -1
1|--seed: "1x" is not a number|--seed 1x
2|usage|--no-such-option
2|what is "more"|more
2|usage|--data
END

# on_terminal COMMAND: what it writes to a terminal.
on_terminal() { TERM=xterm script -qec "$1" /dev/null </dev/null; }
if command -v script >/dev/null && on_terminal true >/dev/null 2>&1; then
    escape=$(printf '\033') return=$(printf '\r')
    shown=$(on_terminal "env -u NO_COLOR '$examples/digits' --epochs 2 --trace few")
    check_has 'on a terminal a bar is drawn over itself, in colour' "$shown" "${return}${escape}[32m###############---" \
        'epoch   1 of 2' "${return}${escape}[32m##############################${escape}[0m"
    shown=$(on_terminal "NO_COLOR=1 '$examples/digits' --epochs 2 --trace few")
    check_has 'without colour where NO_COLOR is set' "$shown" "$return###############---" 'epoch   1 of 2'
    check_equal 'and without any escape' '' "$(printf '%s' "$shown" | tr -dc '\033')"
else
    skip 'what is drawn on a terminal' 'there is no script command to make one'
fi

# ---- the data, whole and damaged ---------------------------------------------------------------------------------------

# How many of each digit: from the description of the data at UCI (optdigits.names).
check_equal 'the data are the images that UCI describes' '178 182 177 183 181 182 181 179 174 180' \
    "$(awk '/^[0-9]$/ { n[$1]++ } END { for (i = 0; i < 10; i++) printf "%s%d", i ? " " : "", n[i] }' "$data")"
check_has 'their origin and licence are said' "$(head -n 12 "$data")" 'Alpaydin' 'Kaynak' 'UCI' 'CC BY 4.0'

# refused NAME PART...: digits refuses the file `bad` and says PART.
refused() {
    refused_name=$1
    shift
    check_fails "$refused_name is refused" 1 "$examples/digits" --data bad
    check_has 'and named' "$output" 'digits: bad' "$@"
}

refused 'a missing file' 'No such file' --data
mkdir bad && refused 'a folder' 'directory'
rmdir bad
: >bad && refused 'an empty file' 'should begin with "images N"'
head -n 3000 "$data" >bad && refused 'a file that was cut off between lines' 'ends in the middle of an image'
head -n 13 "$data" >bad && refused 'a file that was cut off after its header' 'ends after 0 of 1797 images'
head -c 50000 "$data" >bad && refused 'a file that was cut off within a line' ':' 'eight of'
sed '20s/./x/' "$data" >bad && refused 'a strange pixel' ':20:' 'row 6 of an image' 'eight of .123456789abcdefg' 'x'
sed '20s/$/./' "$data" >bad && refused 'a long row' ':20:' 'row 6'
sed '20s/.$//' "$data" >bad && refused 'a short row' ':20:' 'row 6'
sed '14s/.*/10/' "$data" >bad && refused 'a digit above 9' ':14:' 'here should be a digit, not "10"'
sed '20d' "$data" >bad && refused 'a missing row' ':22:' 'row 8' '"1"'
sed 's/^images .*/images 1796/' "$data" >bad && refused 'one image too many' 'more than 1796 images'
sed 's/^images .*/images 1798/' "$data" >bad && refused 'one image too few' 'ends after 1797 of 1798 images'
for count in 4 0 -5 99999; do
    sed "s/^images .*/images $count/" "$data" >bad && refused "$count images" "$count images" 'from 5 to 10000'
done
for count in 999999999999999999999 1797x '' nan; do
    sed "s/^images .*/images $count/" "$data" >bad && refused "a count of '$count'" ':12:' 'should begin with "images N"'
done
head -c 100000 /dev/zero >bad && refused 'a file of zeros' 'line is too long'
awk 'BEGIN { for (i = 0; i < 100000; i++) printf "#" }' >bad && refused 'an endless comment' ':1:' 'too long'
head -c 4000 "$examples/digits" >bad && refused 'a program' ':'
printf 'images 1797\n\0\n' >bad && refused 'a zero among the text' ':'

sed 's/$/\r/' "$data" >dos.txt
check_equal 'line ends of other systems make no difference' "$(few && cat few.txt)" \
    "$(few --data dos.txt && cat few.txt)"

finish
