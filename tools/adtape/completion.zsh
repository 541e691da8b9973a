#compdef adtape
# Completion of the adtape command for zsh. Options and ops are those that the program itself tells of.
_adtape() {
    local -a found
    if (( CURRENT == 2 )); then
        found=(${(f)"$(adtape --help | sed -n 's/^  adtape \([a-z]*\)  *\([A-Z[].*  \)\{0,1\}\([^ ].*\)/\1:\3/p' | grep -v "'")"})
        _describe command found
        return
    fi
    case $words[CURRENT-1] in
    -f | --format)
        found=($(adtape $words[2] --help | sed -n 's/^  -f, --format FORMAT  *//p' | sed 's/([^)]*)//g; s/,/ /g; s/ or / /g'))
        compadd -a found
        return
        ;;
    --dtype) compadd f32 f64 && return ;;
    --color) compadd auto always never && return ;;
    --op)
        found=($(adtape ops | sed 's/(.*//'))
        compadd -a found
        return
        ;;
    -o | --output) _files && return ;;
    esac
    case $words[2]:$words[CURRENT] in
    *:-*)
        found=($(adtape $words[2] --help | grep -o -- '--[a-z][a-z-]*'))
        compadd -a found
        ;;
    ops:*)
        found=($(adtape ops | sed 's/(.*//'))
        compadd -a found
        ;;
    *:*=@*) compset -P '*=@' && _files ;;
    show:* | diff:*) _files ;;
    esac
}
_adtape "$@"
