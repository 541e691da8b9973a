# Dumps as JSON, read back by adtape show and adtape diff: what comes out is what the tape itself gives, to the byte.
. "$ADTAPE_SOURCE/tests/tap.sh"

adtape=$ADTAPE_BUILD/tools/adtape/adtape
golden=$ADTAPE_SOURCE/tests/golden
if [ "$ADTAPE_COMMAND" != yes ]; then
    skip 'adtape show' 'the command is not built'
    finish
fi
if "$adtape" show --help 2>&1 | grep -q 'built without it'; then
    skip 'adtape show' 'cJSON was not found (Debian: libcjson-dev)'
    finish
fi

# ---- what comes back -----------------------------------------------------------------------------------------------

# same NAME FILE COMMAND...: it succeeds and prints the file.
same() {
    same_name=$1
    same_file=$2
    shift 2
    check "$same_name" "$@" && check_equal '- to the byte' "$(cat "$same_file")" "$output"
}
for dump in residual recurrence recurrence-elided oddities error empty no-backward; do
    same "$dump as text" "$golden/$dump.txt" "$adtape" show "$golden/$dump.json"
    same "$dump as a graph" "$golden/$dump.dot" "$adtape" show --format dot "$golden/$dump.json"
    same "$dump in Markdown" "$golden/$dump.md" "$adtape" show --format md "$golden/$dump.json"
    same "$dump in LaTeX" "$golden/$dump.tex" "$adtape" show --format latex "$golden/$dump.json"
    same "$dump as JSON again" "$golden/$dump.json" "$adtape" show --format json "$golden/$dump.json"
done
same 'one scope' "$golden/recurrence-scope.txt" "$adtape" show --scope step1 "$golden/recurrence.json"
same 'in 80 columns' "$golden/residual-80.txt" "$adtape" show --width 80 "$golden/residual.json"
same 'in ASCII' "$golden/residual-ascii.txt" "$adtape" show --ascii "$golden/residual.json"

if [ "$ADTAPE_EXAMPLES" = yes ]; then
    for format in html json; do
        check "residual_block writes $format" "$ADTAPE_BUILD/examples/residual_block" "block.$format"
    done
    same 'a page' block.html "$adtape" show --format html block.json
    check 'to a file' "$adtape" show --format html --output shown.html block.json
    check_equal '- the same' "$(cat block.html)" "$(cat shown.html)"
fi

check 'elements that were left out are not made up' "$adtape" show "$golden/oddities-brief.json"
check_has '- but said to be missing' "$output" '(not kept)'

# ---- two of them ---------------------------------------------------------------------------------------------------

sed 's/"elements":\[0.1,0.2,-0.3,/"elements":[0.1,0.25,-0.3,/' "$golden/residual.json" >changed.json
check 'a dump and itself' "$adtape" diff "$golden/residual.json" "$golden/residual.json"
check_has '- do not differ' "$output" '0 differ'
check_fails 'a dump and a changed one' 1 "$adtape" diff "$golden/residual.json" changed.json
check_has '- differ there' "$output" '1 differs' 'residual.json' 'changed.json' 'H ' '0.20' '≠' '0.25' '1 of 9, 0.05 at [0,1]'
check 'unless that is passed over' "$adtape" diff --absolute 0.1 "$golden/residual.json" changed.json
check_fails 'as a page' 1 "$adtape" diff --format html "$golden/residual.json" changed.json
check_has '- with both' "$output" 'id="tape"' 'id="other"' 'id="difference"' '[1,1,1,0,0]' '</html>'

# ---- what is wrong -------------------------------------------------------------------------------------------------

refused() { # refused NAME MESSAGE FILE...
    refused_name=$1
    refused_message=$2
    shift 2
    check_fails "$refused_name" 1 "$adtape" show "$@" && check_has '- in these words' "$output" "$refused_message"
}
# broken NAME SED MESSAGE: a good dump after sed.
broken() {
    sed "$2" "$golden/recurrence.json" >broken.json
    refused "$1" "broken.json is not a dump of a tape, as of AD_DUMP_JSON: $3" broken.json
}
broken 'half a file is refused' '10,$d' 'it is not JSON'
broken 'another version' 's/"version":1/"version":2/' 'there is no number, or a wrong one, where one should be: version'
broken 'another format' 's/"format":"adtape"/"format":"other"/' 'it does not call itself one'
broken 'a member that is missing' 's/"inputs":\[\],//' 'there is no list where one should be: inputs'
broken 'an op that there is not' 's/"op":3/"op":30/' 'there is no number, or a wrong one, where one should be: op'
broken 'an input from the future' 's/"inputs":\[0,1\]/"inputs":[0,9]/' 'an input comes after the operation'
broken 'elements that are too few' 's/"shape":\[\]/"shape":[2]/' 'a value has other elements than its shape says'
broken 'a shape that is too large' 's/"shape":\[\]/"shape":[1e15,1e15]/' 'a value has no such type'
broken 'an element that is no number' 's/"elements":\[1.5\]/"elements":["x"]/' 'an element is not a number'
broken 'a scope inside itself' 's/"parent":1/"parent":2/' 'there is no number, or a wrong one, where one should be: parent'
broken 'nodes that are missing' 's/"ranges":\[\[0,10\]\]/"ranges":[[0,9]]/' 'its nodes are not those of its ranges'
printf '[]' >empty.json
refused 'a file of something else' 'empty.json is not a dump of a tape' empty.json
refused 'a scope that there is not' "there is no scope 'nowhere'" --scope nowhere "$golden/residual.json"
check_fails 'a file that is missing' 3 "$adtape" show missing.json
check_has '- is named' "$output" 'missing.json: No such file'
check_fails 'one file too few' 2 "$adtape" diff "$golden/residual.json"
check_fails 'a format that there is not' 2 "$adtape" show --format tape "$golden/residual.json"
check_has '- and which there are' "$output" '--format is text, html, json, dot, md or latex'
check_fails 'a difference has no JSON' 2 "$adtape" diff --format json "$golden/residual.json" changed.json
check_fails 'a tolerance that is none' 2 "$adtape" diff --relative -1 "$golden/residual.json" changed.json
finish
