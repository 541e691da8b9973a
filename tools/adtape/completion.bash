# Completion of the adtape command for bash. Options and ops are those that the program itself tells of.
# shellcheck shell=bash disable=SC2207 # one word in a line
_adtape() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]} words
    COMPREPLY=()
    if [ "$COMP_CWORD" = 1 ]; then
        words="$("${COMP_WORDS[0]}" --help | sed -n 's/^  adtape \([a-z]*\)  *[A-Z[].*/\1/p; s/^  adtape \(repl\) .*/\1/p')"
        COMPREPLY=($(compgen -W "$words --help --version" -- "$cur"))
        return
    fi
    case $prev in
    -f | --format)
        words=$("${COMP_WORDS[0]}" "$command" --help | sed -n 's/^  -f, --format FORMAT  *//p' | sed 's/([^)]*)//g; s/,/ /g; s/ or / /g')
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
        return
        ;;
    --dtype) COMPREPLY=($(compgen -W 'f32 f64' -- "$cur")) && return ;;
    --color) COMPREPLY=($(compgen -W 'auto always never' -- "$cur")) && return ;;
    --op) COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" ops | sed 's/(.*//')" -- "$cur")) && return ;;
    -o | --output | *@) COMPREPLY=($(compgen -f -- "$cur")) && return ;;
    esac
    case $command:$cur in
    *:-*) COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" "$command" --help | grep -o -- '--[a-z][a-z-]*')" -- "$cur")) ;;
    *:*@) COMPREPLY=($(compgen -f)) ;;
    ops:*) COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" ops | sed 's/(.*//')" -- "$cur")) ;;
    show:* | diff:*) COMPREPLY=($(compgen -f -- "$cur")) ;;
    esac
}
complete -o filenames -o bashdefault -F _adtape adtape
