# The adtape command, end to end: what it prints, what it says when something is wrong, and its exit status.
# shellcheck shell=sh
. "$ADTAPE_SOURCE/tests/tap.sh"

if [ "$ADTAPE_COMMAND" != yes ]; then
    skip 'the command' 'it is not built'
    finish
fi
adtape=$ADTAPE_BUILD/tools/adtape/adtape
unset NO_COLOR

# prints NAME EXPECTED ARGUMENT...: it succeeds and prints this.
prints() {
    prints_name=$1
    prints_expected=$2
    shift 2
    check "$prints_name" "$adtape" "$@" && check_equal '- this' "$prints_expected" "$output"
}
# refuses NAME STATUS MESSAGE ARGUMENT...: the exit status and the whole message.
refuses() {
    refuses_name=$1
    refuses_status=$2
    refuses_message=$3
    shift 3
    check_fails "$refuses_name" "$refuses_status" "$adtape" "$@" && check_equal '- in these words' "$refuses_message" "$output"
}

# ---- grad ----------------------------------------------------------------------------------------------------------

prints 'grad gives the value and every derivative' 'f = 5.163327830361399
df/dx = 4.847533504774975
df/dy = 1.0975333033107313' grad 'sin(x*y) + exp(x)' x=1.5 y=0.5
prints 'grad calls the result by its name' 'area = 12
darea/da = 4
darea/db = 3' grad 'area = a * b' a=3 b=4
prints 'grad goes to higher orders, each partial derivative once' 'f = 8
df/dx = 8
df/dy = 4
d2f/dx2 = 4
d2f/dx dy = 4
d2f/dy2 = 0
d3f/dx3 = 0
d3f/dx2 dy = 2
d3f/dx dy2 = 0
d3f/dy3 = 0' grad 'x^2 * y' x=2 y=2 --order 3
prints 'grad derives by what is chosen' 'f = 12
df/db = 3' grad 'a * b' a=3 b=4 --wrt b
prints 'grad gives gradients of arrays in their shape' 'f = 3
df/dx = [3, 1]
df/dH = [[1, 0],
         [1, 0]]' grad 'sum(H @ x)' x=[1,0] 'H=[[1,5],[2,-4]]'
prints 'grad gives the matrix of a quadratic form as its Hessian' 'f = 11
df/dx = [4, 9]
d2f/dx2 = [[2, 1],
           [1, 4]]' grad 'H = [[2, 1], [1, 4]]; dot(x, H @ x) / 2' x=[1,2] --order 2
prints 'grad takes a seed, and rounds' 'f = [3, 8]
df/dx = [3, 40]
df/dy = [1, 20]' grad 'x * y' x=[1,2] y=[3,4] --seed [1,10] --precision 3
prints 'grad shows no negative zero' 'f = 0
df/dx = 0' grad -- '-0 * x * 0' x=1
prints 'grad computes in f32' 'f = 0.33333334
df/dx = 0.33333334' grad 'x / 3' x=1 --dtype f32
prints 'grad writes JSON, in which there is no infinity' '{
  "name": "f",
  "value": null,
  "derivatives": [
    {"order": 1, "wrt": ["x"], "value": [[1, 0], [0, null]]}
  ]
}' grad 'sum(exp(x))' 'x=[[0,-inf],[-inf,1000]]' -f json
prints 'grad reads the expression from standard input' 'f = 16
df/dx = 32' grad - x=2 <<'EOF'
y = x*x # a comment

; (y
 *
y)
EOF

# ---- the language --------------------------------------------------------------------------------------------------

prints 'operators bind as in Python' 'f = -47
df/dx = -24' grad -- '-x^2^1 * 3 + 1 - -0' x=4
prints 'a matrix is transposed' 'f = 9
df/dx = [[6, 6]]' grad 'sum(x.T @ x)' 'x=[[1,2]]'
prints 'literals and variables that are only indices are integers' 'f = 0
df/dx = [0, 0]' grad 'k = 1; softmax_xent(x, k) + nll([-1, 0], i)' x=[-800,0] i=1
prints 'attributes are given by name, or after the inputs' 'f = -18
df/dx = [20, 1]' grad 'sum(leaky_relu(x, 10) * slice([0, 2, 1], axis=0, start=1))' x=[-1,2]
prints 'results have names' 'f = 9
df/dA = [[3, 0],
         [0, 3]]' grad 'q, r = qr(A); d = diagonal(r); prod(d)' 'A=[[3,0],[0,3]]'
prints 'comparisons choose' 'f = 27
df/dx = [0, 0, 10]' grad 'sum(where(x >= 5, x^2, 1 - 0*x))' x=[1,2,5] --dtype f32 --wrt x
prints 'letters of any alphabet are names' 'f = 9
df/dα = 6' grad 'α * α' α=3
prints 'pi, inf and nan are numbers' 'f = nan
df/dx = 3.141592653589793' grad 'x * pi + nan + inf' x=1
prints 'a name of the user hides such a number' 'f = 6
df/dpi = 2' grad '2 * pi' pi=3

# ---- trace ---------------------------------------------------------------------------------------------------------

check 'trace shows both halves' "$adtape" trace 'y = x + relu(H@x + v); e = softmax_xent(y, 2)' \
    x=[1,-2,0.5] 'H=[[.1,.2,-.3],[.4,-.5,.6],[-.7,.8,.9]]' v=[.1,.2,.3]
check_has 'with the places in the expression and the merge' "$output"  'tape: 10 nodes' 'v3 = H x' 'expr:15' 'x 24 B for H̄' \
    'expr:9' 'e = -log softmax(y)[v7]' '1.162' 'backward' '[ 0.5156  0.1716 -0.6873]' \
    '= [ 0.5843  0.0858 -0.5843]' 'merge of 2'
check 'trace goes forward only' "$adtape" trace 'x * x' x=[1,2] --forward
check_has 'then there are no gradients' "$output" '[1 4]' 'there was no pass yet'
check 'trace starts from a seed' "$adtape" trace 'x * x' x=[1,2] --seed [1,-1] --ascii --precision 2
check_has 'and passes it on' "$output" '~x is the derivative' '[ 1 -1]' '[ 2 -4]'
check 'trace writes to a file' "$adtape" trace 'x * x' x=3 -f dot -o trace.dot
check_has 'a graph' "$(cat trace.dot)" 'digraph' '->' '}'
check 'trace writes JSON' "$adtape" trace 'x * x' x=3 -f json
check_has 'of the tape' "$output" '{' '"nodes"' '}'
check 'trace writes a page' "$adtape" trace 'x * x' x=3 -f html
check_has 'of the tape' "$output" '<!doctype html>' '"nodes"' '</html>'
check 'trace writes Markdown' "$adtape" trace 'x * x' x=3 -f md
check_has 'tables and equations' "$output" '| ---: |' '| `9` |' '```text' "$(printf 'x\314\204 = ')"
check 'trace writes LaTeX' "$adtape" trace 'x * x' x=3 -f latex
check_has 'tables and equations' "$output" '\begin{longtable}' '\begin{align*}' '\bar{x} &= ' '\end{align*}'
check 'trace elides the middle of a long tape' "$adtape" trace - x=1 --forward <<EOF
y = x$(printf ' + x%.0s' $(seq 100))
EOF
check_has 'and says so' "$output" 'more nodes'
check 'or shows all of it' "$adtape" trace - x=1 --forward --all <<EOF
y = x$(printf ' + x%.0s' $(seq 100))
EOF
check_equal 'every node' 101 "$(printf '%s\n' "$output" | grep -c 'expr:\| x *input')"
escape=$(printf '\033')
check 'colours can be had' "$adtape" trace 'x' x=3 --color always
check_has 'they are there' "$output" "$escape["
check 'but not without a terminal' "$adtape" trace 'x' x=3
check_equal 'none is there' 0 "$(printf '%s\n' "$output" | grep -c "$escape")"

if command -v dot >/dev/null; then
    check 'trace draws' "$adtape" trace 'x * x' x=3 -f svg
    check_has 'a picture' "$output" '<svg' '</svg>'
else
    skip 'trace draws' 'there is no dot'
fi
check_fails 'without Graphviz' 3 env PATH=/nowhere "$adtape" trace 'x * x' x=3 -f svg
check_has 'the message says what to install' "$output" 'not installed: its package is called graphviz'

# ---- check ---------------------------------------------------------------------------------------------------------

check 'check proves a gradient' "$adtape" check 'sum(tanh(H @ x))' x=[1,-2] 'H=[[1,2],[3,4]]'
check_has 'and says what was compared' "$output" 'f: right' '83 numbers compared'
check_fails 'check finds a gradient that was cut' 1 "$adtape" check 'y = straight_through(x^2, x)' x=3
check_has 'and says where' "$output" 'y: WRONG' '(x) is wrong' 'backward gives 1' 'differences 6'
check 'check takes indices' "$adtape" check 'softmax_xent(x, k)' 'x=[[1,2],[3,4]]' k=[0,1] --fast --random-seed 3
check 'check proves an op on its samples' "$adtape" check --op softmax --first-order
check_has 'all of them' "$output" 'softmax: right' 'numbers compared in 6 samples'
refuses 'an op that is not there' 1 "adtape: there is no op sofmax; 'adtape ops' lists them" check --op sofmax
refuses 'a check of nothing' 1 'adtape: there is no variable to check the gradient of: give one as x=...' check '1 + 1'

# ---- ops -----------------------------------------------------------------------------------------------------------

check 'ops lists everything' "$adtape" ops
check_has 'in the order of the registry, then compositions' "$output" 'add(a, b) ' 'y = a + b' \
    'softmax(x, axis=-1) ' 'layer_norm('
names=$(sed -n 's/^| `\([a-z0-9_]*\)` .*/\1/p' "$ADTAPE_SOURCE/docs/ops.md")
check_equal 'every op once' "$names" \
    "$(printf '%s\n' "$output" | head -n "$(printf '%s\n' "$names" | wc -l)" | sed 's/(.*//')"
show_each() { for name in $names; do "$adtape" ops "$name" >one.txt && grep -q '^  value ' one.txt || echo "$name"; done; }
check_equal 'each is shown by its name' '' "$(show_each)"
prints 'ops shows one' 'power(x, c)
  value       y = x^c
  gradient    x̄ += ȳ * c * x^(c - 1)
  keeps       x
  convention  at 0: as the formula says, and 0 for the power 0
  derivatives of any order: the gradient is written in ops; the first is also computed directly
  forward     by a rule of its own' ops power
prints 'ops takes a pattern' 'isnan(x)                            y = [x is NaN]
isinf(x)                            y = [x is infinite]
isfinite(x)                         y = [x is finite]' ops 'is*'
refuses 'a slip of the pen' 1 'adtape: there is no op sofmax; did you mean softmax?' ops sofmax

# ---- repl ----------------------------------------------------------------------------------------------------------

session() { "$adtape" repl; }
check 'repl shows each value, and runs all again when a variable changes' session <<'EOF'
:let x = [1, 2]
y = x * x # a comment

# nothing
s = sum(y)
:let x = [3, 4]
:grad
:check
:list
:reset
2 ^ 3
:quit
5
EOF
check_equal 'these' 'y = [1, 4]
s = 5
s = 25
s = 25
ds/dx = [6, 8]
s: right
:let x = [3, 4]
y = x * x # a comment
s = sum(y)
f = 8' "$(printf '%s\n' "$output" | sed '/numbers compared/d')"
check_fails 'a wrong line of the repl is taken back, and told in the end' 1 session <<'EOF'
:grad
:let x = 2
sofmax(x)
y = x * x
bad = sum(y @ [1, 2, 3])
:let x = [1, 2
:foo
:trace xml
:ops 'sofmax'
:grad
EOF
check_has 'each with its place' "$output" 'adtape: there is no value yet: write an expression first' \
    'adtape: line 3:1: there is no op sofmax; did you mean softmax?' 'y = 4' \
    'adtape: matmul at line 5:13:' "adtape: value:10: ']' is missing" 'adtape: there is no command :foo; :help lists them' \
    "adtape: --format is text" 'y = 4' 'dy/dx = 4'
change() { printf ':let x = [1, 2]\ny = dot(x, [3, 4])\n:let x = [1, 2, 3]\ny\n' | "$adtape" repl; }
check_fails 'a value that a line does not take is taken back' 1 change
check_has 'and the one before is there again' "$output" 'y = 11' 'dot at line 2:5' 'y = dot(x' 'f = 11'
closed_repl() { "$adtape" repl <&-; }
check_fails 'repl without standard input' 3 closed_repl
check_has 'says so' "$output" 'adtape: standard input cannot be read'
refuses 'repl with an expression' 2 'adtape: repl takes no expression: it reads them' repl x
full_repl() { echo 1 | "$adtape" repl >/dev/full; }
if [ -c /dev/full ]; then check_fails 'a full disk stops the repl' 3 full_repl; fi

# ---- what is wrong with an expression --------------------------------------------------------------------------------

refuses 'an op that is not there is shown' 1 'adtape: expr:7: there is no op sofmax; did you mean softmax?
  1 +   sofmax(x)
        ^' grad '1 +   sofmax(x)' x=1
refuses 'a variable that is not there' 1 'adtape: expr:5: there is no variable y; give it a value: y=...
  x + y
      ^' grad 'x + y' x=1
refuses 'an op without its brackets' 1 'adtape: expr:1: there is no variable sin; the op of that name is called: sin(x)
  sin
  ^' grad sin x=1
refuses 'shapes that do not fit, at the operator' 1 \
    'adtape: matmul at expr:7: inner dimensions differ: x is f64[2], H is f64[3,2] (2 != 3); did you mean transpose(H)?
  1 + x @ H
        ^' grad '1 + x @ H' x=[1,2] 'H=[[1,2],[3,4],[5,6]]'
refuses 'the place in a text of several lines, counted in characters' 1 \
    'adtape: add at expr:2:8: shapes do not broadcast: α is f64[2], x is f64[3]; aligned at the right, each pair of dimensions must be equal or one of them 1
  α = α  + x
         ^' grad 'y = 1;
α = α  + x' x=[1,2,3] α=[1,2]
refuses 'nothing' 1 'adtape: expr:1: the expression is empty

  ^' grad '' x=1
refuses 'nothing but a comment' 1 'adtape: expr:10: the expression is empty
  # nothing
           ^' grad '# nothing' x=1
refuses 'an open bracket' 1 "adtape: expr:7: ')' is missing: the bracket at expr:5 is still open
  x + (y
        ^" grad 'x + (y' x=1 y=1
refuses 'a bracket too many' 1 'adtape: expr:6: this bracket closes nothing
  x + y)
       ^' grad 'x + y)' x=1 y=1
refuses 'an argument too many' 1 'adtape: expr:9: one argument too many: add(a, b)
  add(x,x,x)
          ^' grad 'add(x,x,x)' x=1
refuses 'an input that is missing' 1 'adtape: expr:1: an input is missing: add(a, b)
  add(x)
  ^' grad 'add(x)' x=1
refuses 'an attribute that is missing' 1 'adtape: expr:1: axis is missing: slice(x, axis, start=0, stop=inf, step=1)
  slice(x)
  ^' grad 'slice(x)' x=1
refuses 'an attribute that is not there' 1 'adtape: expr:12: softmax has no attribute ax: softmax(x, axis=-1)
  softmax(x, ax=7)
             ^' grad 'softmax(x, ax=7)' x=1
refuses 'an attribute given twice' 1 'adtape: expr:20: axis is given twice
  softmax(x, axis=0, axis=1)
                     ^' grad 'softmax(x, axis=0, axis=1)' x=1
refuses 'an attribute of another type' 1 'adtape: expr:17: axis is a whole number, but was given 0.5
  softmax(x, axis=0.5)
                  ^' grad 'softmax(x, axis=0.5)' x=1
refuses 'a variable as an attribute' 1 \
    'adtape: expr:17: the value of an attribute is a number, a list like [0, 1], true, false, or a dtype
  softmax(x, axis=x)
                  ^' grad 'softmax(x, axis=x)' x=1
refuses 'a result that is not there' 1 'adtape: expr:8: 2 names, but only 1 result
  a, b = exp(x)
         ^' grad 'a, b = exp(x)' x=1
refuses 'two values side by side' 1 "adtape: expr:3: an operator or ';' is missing before this
  x 3
    ^" grad 'x 3' x=1
refuses 'a product without its sign' 1 'adtape: expr:2: a name begins right after a number; a product is written with *
  3x
   ^' grad 3x x=1
refuses 'a variable that is called' 1 'adtape: expr:1: x is a variable, not an op; a product is written with *
  x(3)
  ^' grad 'x(3)' x=1
refuses 'an index in brackets' 1 \
    'adtape: expr:2: an element is select(x, axis=0, i=0), a part is slice(x, axis=0, start=0, stop=2)
  x[0]
   ^' grad 'x[0]' x=[1,2]
refuses 'comparisons in a chain' 1 'adtape: expr:4: comparisons do not chain: put them into brackets, or use logical_and
  a<b<c
     ^' grad 'a<b<c' a=1 b=2 c=3
refuses 'a number beyond all' 1 'adtape: expr:1: the number is too large; infinity is written inf
  1e999
  ^' grad 1e999 x=1
refuses 'a sign of no meaning' 1 "adtape: expr:3: '\$' means nothing here
  x \$ y
    ^" grad 'x $ y' x=1 y=2
refuses 'a byte that is not UTF-8' 1 "adtape: expr:2: byte 0xff is not UTF-8
  x$(printf '\377')
   ^" grad "x$(printf '\377')" x=1
refuses 'a result of several numbers' 1 \
    'adtape: expr:2: the result is f64[2], but one number is derived: put sum(...) around it, or give --seed
  x*x
   ^' grad 'x*x' x=[1,2]
refuses 'a variable that is an index and not' 1 'adtape: softmax_xent at expr:1: t is f64[], but indices are i32 or i64
  softmax_xent(x, t) * t
  ^' grad 'softmax_xent(x, t) * t' x=[1,2] t=1
refuses 'a derivative by an index' 1 'adtape: there is no derivative by t, whose values are indices' \
    grad 'softmax_xent(x, t)' x=[1,2] t=1 --wrt t
check_fails 'a derivative of too many axes' 1 "$adtape" grad 'sum(x)' 'x=[[1]]' --order 5
check_has 'the others are there' "$output" 'd4f/dx4' 'adtape: the derivatives of order 5 have more than 8 axes'
refuses 'a seed of another shape' 1 'adtape: the seed is f64[3], but the result is f64[2]' \
    trace 'x*x' x=[1,2] --seed [1,2,3]

# A text may come from anywhere: 100000 brackets must not exhaust the stack.
deep() { "$adtape" grad - x=1 <deep.txt; }
for text in '(' '-' '[' 'exp(' 'x^' 'x+(' ; do
    awk -v text="$text" 'BEGIN { for (i = 0; i < 100000; i++) printf "%s", text }' >deep.txt
    check_fails "100000 times $text ends" 1 deep
    case $text in
    '[') check_has 'with a message' "$output" 'an array has at most 8 axes' ;;
    *) check_has 'with a message' "$output" 'nested more than 200 deep' '^' ;;
    esac
done
awk 'BEGIN { printf "x"; for (i = 0; i < 100000; i++) printf " + x" }' >deep.txt
check 'a sum of 100001 terms is fine' deep
check_equal 'and right' 'f = 100001
df/dx = 100001' "$output"

# ---- values of variables ---------------------------------------------------------------------------------------------

refuses 'what is no number' 1 'adtape: argument:3: a number or an array like [1, 2] is missing here
  x=one
    ^' grad x x=one
refuses 'a hole in an array' 1 'adtape: argument:6: an array holds numbers; cat and stack join variables
  x=[1,,2]
       ^' grad x x=[1,,2]
refuses 'rows that differ' 1 'adtape: argument:10: rows differ in length: this one has 1, those before have 2
  x=[[1,2],[3]]
           ^' grad x 'x=[[1,2],[3]]'
refuses 'a row among numbers' 1 'adtape: argument:6: an array, where the rows before hold numbers: all must have one shape
  x=[1,[2]]
       ^' grad x 'x=[1,[2]]'
refuses 'a number among rows' 1 'adtape: argument:8: a number, where the rows before are arrays: all must have one shape
  x=[[1],2]
         ^' grad x 'x=[[1],2]'
refuses 'more than a value' 1 'adtape: argument:5: one number or array is all that can stand here
  x=1 2
      ^' grad x 'x=1 2'
refuses 'no value' 2 "adtape: 'x' is not NAME=VALUE" grad x x
refuses 'two values' 2 'adtape: x is given twice' grad x x=1 x=2
prints 'an empty array' 'f = 0
df/dx = []' grad 'sum(x)' 'x=[]'

# ---- .npy files ------------------------------------------------------------------------------------------------------

byte() { printf '%b' "\\0$(printf '%o' "$1")"; }
# npy FILE HEADER [DATA]: version 1; the data in octal escapes.
npy() {
    npy_length=${#2}
    {
        printf '\223NUMPY\001\000'
        byte $((npy_length % 256))
        byte $((npy_length / 256))
        printf '%s' "$2"
        printf '%b' "${3:-}"
    } >"$1"
}
dict() { printf "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }" "$1" "$2" "$3"; }
one='\0000\0000\0000\0000\0000\0000\0360\0077' two='\0000\0000\0000\0000\0000\0000\0000\0100'
three='\0000\0000\0000\0000\0000\0000\0010\0100'
npy c.npy "$(dict '<f8' False '(1, 3)')" "$one$two$three"
prints 'a file of f8' 'f = 14
df/dx = [[2, 4, 6]]' grad 'sum(x*x)' x=@c.npy
npy fortran.npy "$(dict '<f8' True '(3, 2)')" "$one$two$three$three$two$one"
prints 'a file in the order of Fortran' 'f = [[1, 3],
     [2, 2],
     [3, 1]]
df/dx = [[1, 1],
         [1, 1],
         [1, 1]]' grad x x=@fortran.npy --seed 1
npy big.npy "$(dict '>f8' False '()')" '\0100\0000\0000\0000\0000\0000\0000\0000'
prints 'a file of the other byte order' 'f = 2
df/dx = 1' grad x x=@big.npy
npy f4.npy "$(dict '<f4' False '(2,)')" '\0000\0000\0200\0077\0000\0000\0000\0100'
prints 'a file of f4' 'f = 3
df/dx = [1, 1]' grad 'sum(x)' x=@f4.npy
npy i8.npy "$(dict '<i8' False '(2,)')" '\0001\0000\0000\0000\0000\0000\0000\0000\0000\0000\0000\0000\0000\0000\0000\0000'
npy i4.npy "$(dict '<i4' False '(2,)')" '\0001\0000\0000\0000\0000\0000\0000\0000'
for file in i8 i4; do
    prints "a file of $file is one of indices" 'f = 70
df/dx = [[0, 1],
         [1, 0]]' grad 'sum(pick(x, k))' 'x=[[10,20],[50,60]]' "k=@$file.npy"
done

refuses_file() { refuses "$1" 3 "adtape: $2" grad x "x=@$3"; }
refuses_file 'a file that is not there' 'no/such.npy: No such file or directory' no/such.npy
refuses_file 'a folder' '.: Is a directory' .
refuses_file 'an endless file' '/dev/zero: not a .npy file' /dev/zero
printf 'x' >short.npy
refuses_file 'a file of one byte' 'short.npy: not a .npy file' short.npy
head -c 30 c.npy >header.npy
refuses_file 'a file that ends in its header' 'header.npy: it ends within its header' header.npy
npy cut.npy "$(dict '<f8' False '(1, 3)')" "$one$two"
refuses_file 'a file that is cut off' 'cut.npy: it is cut off: f64[1,3] has 24 bytes, but 16 are there' cut.npy
npy huge.npy "$(dict '<f8' False '(1000000, 1000000)')" "$one"
refuses_file 'a shape that is not there' \
    'huge.npy: it is cut off: f64[1000000,1000000] has 8000000000000 bytes, but 8 are there' huge.npy
npy vast.npy "$(dict '<f8' False '(9223372036854775807, 9223372036854775807)')"
refuses_file 'a shape beyond all' \
    'vast.npy: its shape f64[9223372036854775807,9223372036854775807] does not fit into memory' vast.npy
npy vaster.npy "$(dict '<f8' False '(99999999999999999999,)')"
refuses_file 'a number beyond all' 'vaster.npy: its header has no shape that makes sense' vaster.npy
npy negative.npy "$(dict '<f8' False '(-1,)')"
refuses_file 'a negative dimension' 'negative.npy: its header has no shape that makes sense' negative.npy
npy rank.npy "$(dict '<f8' False '(1,1,1,1,1,1,1,1,1)')"
refuses_file 'nine axes' 'rank.npy: it has more than 8 axes' rank.npy
npy text.npy "$(dict '<U5' False '(1,)')"
refuses_file 'a file of texts' "text.npy: its type is U5, but f4, f8, i4 and i8 can be read; in NumPy: x.astype('f8')" \
    text.npy
npy record.npy "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }"
refuses_file 'a file of records' 'record.npy: not an array of numbers of one type' record.npy
npy order.npy "{'descr': '<f8', 'shape': (1,), }"
refuses_file 'a file without its order' 'order.npy: its header does not say in which order it is' order.npy
npy shapeless.npy "{'descr': '<f8', 'fortran_order': False, }"
refuses_file 'a file without its shape' 'shapeless.npy: its header has no shape' shapeless.npy
printf '\223NUMPY\011\000\001\000 ' >version.npy
refuses_file 'a version to come' 'version.npy: version 9 of the format, but 1 to 3 are known' version.npy
printf '\223NUMPY\002\000\377\377\377\377' >long.npy
refuses_file 'a header of gigabytes' 'long.npy: its header is too long to be one of a plain array' long.npy

# ---- usage -----------------------------------------------------------------------------------------------------------

check 'it has a version' "$adtape" --version
check_equal 'that of the library' "adtape $ADTAPE_VERSION" "$output"
for command in '' trace grad check ops repl; do
    # shellcheck disable=SC2086 # no word, or one
    check "help for adtape $command" "$adtape" $command --help
    check_has 'how it is used' "$output" "usage: adtape" '--help'
done
# not_in_man COMMAND: its options that the manual page does not have.
not_in_man() {
    "$adtape" "$1" --help | grep -o -- '--[a-z][a-z-]*' | sort -u | while read -r option; do
        grep -q -- "Fl -${option#--}\| , -${option#--}" "$ADTAPE_SOURCE/tools/adtape/adtape.1" || echo "$1 $option"
    done
}
for command in trace grad check ops repl; do
    check_equal "the manual page has every option of $command" '' "$(not_in_man $command)"
done
if command -v groff >/dev/null; then
    check_equal 'the manual page is well-formed' '' \
        "$(groff -mandoc -Tascii -ww "$ADTAPE_SOURCE/tools/adtape/adtape.1" 2>&1 >/dev/null)"
else
    skip 'the manual page is well-formed' 'there is no groff'
fi
if command -v bash >/dev/null; then
    cat >complete.bash <<'EOF'
source "$ADTAPE_SOURCE/tools/adtape/completion.bash"
shopt -s expand_aliases
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_adtape
echo "${COMPREPLY[*]}"
EOF
    # completes NAME EXPECTED WORD...
    completes() {
        completes_name=$1
        completes_expected=$2
        shift 2
        check_equal "$completes_name" "$completes_expected" "$(bash complete.bash "$adtape" "$@")"
    }
    : >data.npy
    completes 'bash completes commands' 'trace' tr
    completes 'bash completes options' '--format --forward' trace x --fo
    completes 'bash completes formats' 'text json' grad x --format ''
    completes 'bash completes ops' 'matmul matmul_sum' check --op matm
    completes 'bash completes files of values' 'data.npy' grad 'sum(x)' x =@ dat
else
    skip 'bash completes' 'there is no bash'
fi
if command -v zsh >/dev/null; then
    check 'the completion for zsh can be read' zsh -n "$ADTAPE_SOURCE/tools/adtape/completion.zsh"
else
    skip 'the completion for zsh can be read' 'there is no zsh'
fi

check_fails 'no command' 2 "$adtape"
refuses 'a command that is not there' 2 "adtape: there is no command 'gard'; 'adtape --help' lists them" gard
refuses 'no expression' 2 'adtape: an expression is missing' trace
refuses 'an option that is not there' 2 "adtape: grad: there is no option --foo; 'adtape grad --help' lists them" \
    grad --foo x x=1
refuses 'an expression that looks like an option' 2 \
    'adtape: grad: there is no option -x; an expression that begins with - goes behind --' grad -x x=1
refuses 'an option without its value' 2 'adtape: grad: the option --order needs a value' grad x x=1 --order
refuses 'an order beyond all' 2 "adtape: --order is a whole number from 1 to 8, not '9'" grad x x=1 --order 9
refuses 'a format that is not there' 2 "adtape: --format is text or json, not 'xml'" grad x x=1 --format xml
refuses 'a dtype that is not there' 2 "adtape: --dtype is f32 or f64, not 'f16'" trace x x=1 --dtype f16
refuses 'a tolerance of nothing' 2 "adtape: --tolerance is a number between 0 and 1, not '0'" check x x=1 --tolerance 0

# ---- where it writes to ----------------------------------------------------------------------------------------------

full() { "$adtape" "$@" >/dev/full; }
if [ -c /dev/full ]; then
    for command in 'grad x' 'trace x' 'check x' 'ops --' '--version'; do
        case $command in ops* | --*) value= ;; *) value=x=1 ;; esac
        # shellcheck disable=SC2086 # words
        check_fails "a full disk stops $command" 3 full $command $value
        check_has 'with a message' "$output" 'adtape: the output cannot be written'
    done
else
    skip 'a full disk' 'there is no /dev/full'
fi
refuses 'a file that cannot be made' 3 'adtape: no/such/file: No such file or directory' trace x x=1 -o no/such/file
closed_input() { "$adtape" grad - x=1 <&-; }
check_fails 'standard input that is closed' 3 closed_input
check_has 'is told' "$output" 'adtape: standard input cannot be read'
check_equal 'a closed pipe ends it in silence' '' "$({ "$adtape" ops | true; } 2>&1)"
finish
