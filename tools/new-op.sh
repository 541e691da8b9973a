#!/bin/sh
# new-op.sh NAME: writes the skeleton of an op into the source tree that is the current directory: ops/NAME.c, and in
# adtape/ops.h its constructor and its row in the op list.
set -eu

die() {
    printf 'new-op: %s\n' "$*" >&2
    exit 1
}

name=${1:-}
file=ops/$name.c
header=autodiff/include/adtape/ops.h
[ $# = 1 ] || die 'usage: new-op NAME'
case $name in
'' | [!a-z]* | *[!a-z0-9_]*) die "'$name': a name is of lower-case letters, digits and _, and begins with a letter" ;;
esac
[ -f "$header" ] || die "there is no $header here"
[ ! -e "$file" ] || die "there is already a file $file"
if grep -Eqrw "ad_$name|ad_op_$name|ad_${name}_at" autodiff ops --include='*.[ch]'; then
    die "the name is taken: ad_$name, ad_${name}_at or ad_op_$name is already in the sources"
fi
for marker in 'constructors go' 'rows go'; do
    [ "$(grep -c "new-op: $marker above this line" "$header")" = 1 ] ||
        die "$header must have the line '/* new-op: $marker above this line */' exactly once"
done

# The backslashes of the list stand in one column.
column=$(awk '/^#define AD_OP_LIST/ { print index($0, "\\") }' "$header")
awk -v name="$name" -v column="$column" '
    /new-op: constructors go above this line/ {
        printf "#define ad_%s(...) ad_%s_at(AD_HERE, __VA_ARGS__) /* x^2, elementwise */\n", name, name
        printf "AD_API ad_var ad_%s_at(const char *where, ad_var x);\n\n", name
    }
    /new-op: rows go above this line/ { printf "%-" (column - 1) "s\\\n", "    X(" name ")" }
    { print }' "$header" >"$header.new"
sed "s/@NAME@/$name/g" tools/op.c.in >"$file"
mv -- "$header.new" "$header"
echo "wrote $file, and ad_$name in $header"
