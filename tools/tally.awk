# Reads meson's testlog.txt, in which each test program reported in TAP; prints what failed, with the line that
# reproduces it (`command` is its first half), and appends the numbers that passed and failed to the file `counts`.
# Every TAP result counts as one; so does a program that ended badly without saying which of its tests failed.

function fail(what, how) {
    failed++
    failed_here++
    print ""
    print "FAILED  " program ": " what
    print "  again with: " command " " program how
}

function finish_program() {
    if (program == "") return
    if (failed_here == 0 && outcome != "exit status 0") fail(outcome, "")
    else if (failed_here == 0 && results != plan)
        fail((plan < 0 ? "it ended without a plan" : "it planned " plan " tests") ", " results " reported", "")
    else if (failed_here == 0) return
    for (i = 1; i <= stray_lines && i <= 60; i++) print "  " stray[i]
}

/^=+ [0-9]+\/[0-9]+ =+$/ {
    program = ""
    plan = -1
    results = failed_here = stray_lines = 0
    part = "head"
    next
}
/^=+$/ {
    finish_program()
    program = part = ""
    next
}
/^-+ stdout -+$/ { part = "stdout"; next }
/^-+ stderr -+$/ { part = "stderr"; in_failure = 0; next }

part == "head" && /^test: / { program = $NF }
part == "head" && /^result: / { outcome = substr($0, index($0, $2)) }

part == "stdout" && /^1\.\.[0-9]+/ { plan = substr($1, 4) + 0; next }
part == "stdout" && /^ok/ {
    results++
    in_failure = 0
    if (tolower($0) ~ /# skip/) {
        skipped++
        sub(/^ok[ 0-9]*(- )?/, "")
        skips = skips "  " program ": " $0 "\n"
    } else {
        passed++
    }
    next
}
part == "stdout" && /^not ok/ {
    results++
    in_failure = 1
    name = $0
    sub(/^not ok[ 0-9]*(- )?/, "", name)
    sub(/ *[(][0-9.]*s[)]$/, "", name)
    filter = ""
    if (match(name, /^[A-Za-z0-9_]+::[A-Za-z0-9_]+/)) {
        filter = substr(name, 1, RLENGTH)
        sub(/::/, "/", filter)
        filter = " " filter
    }
    fail(name, filter)
    next
}
part == "stdout" && in_failure { print "  " $0; next }
/^(TAP version|# Criterion|#$|# Running|[(]test program|$)/ { next }
part == "stderr" || (part == "stdout" && results == 0) {
    stray[++stray_lines] = $0
}

END {
    if (skips != "") printf "\nskipped:\n%s", skips
    print passed + 0, failed + 0 >> counts
}
