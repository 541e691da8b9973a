# Dumps in JSON are what docs/tape.schema.json says. The golden files stand for the dumps: test_dump keeps them the same.
. "$ADTAPE_SOURCE/tests/tap.sh"
schema=$ADTAPE_SOURCE/docs/tape.schema.json

cat >validate.py <<'END'
import json, sys
from jsonschema import Draft7Validator

def refuse(constant):
    raise ValueError(constant + " is not JSON")

def load(path):
    return json.load(open(path, encoding="utf-8"), parse_constant=refuse)

schema = load(sys.argv[1])
Draft7Validator.check_schema(schema)
errors = [e for path in sys.argv[2:] for e in Draft7Validator(schema).iter_errors(load(path))]
for error in errors[:10]:
    print("/".join(map(str, error.absolute_path)) + ": " + error.message[:200])
sys.exit(len(errors) > 0)
END

if ! python3 -c 'import jsonschema' 2>/dev/null; then
    skip 'dumps match the schema' 'there is no python3 with jsonschema (Debian: python3-jsonschema)'
    finish
fi

for dump in "$ADTAPE_SOURCE"/tests/golden/*.json; do
    check "${dump##*/} matches the schema" python3 validate.py "$schema" "$dump"
done

# refused NAME SED: the schema finds what sed changes in a good dump.
refused() {
    sed "$2" "$ADTAPE_SOURCE/tests/golden/recurrence.json" >changed.json
    check_fails "the schema refuses $1" 1 python3 validate.py "$schema" changed.json
}
refused 'another version' 's/"version":1/"version":2/'
refused 'a missing member' 's/"precision":4,//'
refused 'a member that is not described' 's/"leaf":true/"leave":true/'
refused 'a number that is none' 's/"elements":\[0.5\]/"elements":["half"]/'
refused 'an input that is no index' 's/"inputs":\[0,/"inputs":[-1,/'
finish
