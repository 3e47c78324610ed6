# The words up to the cursor as they were typed, in $words: Bash cuts at "=" and ":" as well.
_@NAME@_words() {
    local i line=${COMP_LINE:0:COMP_POINT} rest word
    words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        rest=${line#"${line%%[![:space:]]*}"}
        word=${COMP_WORDS[i]:0:${#rest}}
        if [ $i = 0 ] || [ ${#rest} != ${#line} ]; then
            words+=("$word")
        else
            words[${#words[@]} - 1]+=$word
        fi
        line=${rest#"$word"}
    done
}

# What may stand in the place of a value: nothing that is known, files (Bash's own way of completing), directories; and words.
_@NAME@_value() { # "KIND WORD..." BEGINNING
    local kind=${1%% *}
    case $kind in
        none) compopt +o default ;;
        dirs) compopt +o default -o dirnames ;;
    esac
    [ "$1" != "$kind" ] || return
    mapfile -t COMPREPLY < <(compgen -W "${1#* }" -- "$2")
    case $kind in
        dirs) compopt -o plusdirs ;;
        files) [ ${#COMPREPLY[@]} = 0 ] || mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- "$2") ;;
    esac
}

_@NAME@() {
    # By "COMMAND", or "COMMAND --option".
    local -A options=(
@OPTIONS@
    )
    local -A values=(
@VALUES@
    )
    local -A operands=(
@OPERANDS@
    )
    local words cur command=@NAME@ previous= i kind last=${COMP_WORDS[COMP_CWORD]}
    _@NAME@_words
    cur=${words[-1]} COMPREPLY=()
    for ((i = 1; i < ${#words[@]} - 1; i++)); do
        if [ -n "${options["@NAME@ ${words[i]}"]}" ]; then
            command+=" ${words[i]}"
            break
        fi
        [[ ${words[i]} == -* || -n ${values["$command ${words[i - 1]}"]} ]] || break
    done
    [ ${#words[@]} -lt 3 ] || previous=${words[-2]}
    kind=${values["$command $previous"]}
    if [[ $cur == --*=* ]]; then
        kind=${values["$command ${cur%%=*}"]-none} cur=${cur#*=}
        _@NAME@_value "${kind#maybe }" "$cur"
    elif [[ -n $kind && $kind != maybe* ]]; then
        _@NAME@_value "$kind" "$cur"
    elif [[ $cur == -* ]]; then
        compopt +o default
        mapfile -t COMPREPLY < <(compgen -W "${options["$command"]}" -- "$cur")
        [[ ${#COMPREPLY[@]} != 1 || $COMPREPLY != *= ]] || compopt -o nospace
    else
        _@NAME@_value "${operands["$command"]}" "$cur"
    fi
    # Readline puts what it gets in the place of what it took for the word.
    case $last in = | :) last= ;; esac
    [ "$cur" = "$last" ] || COMPREPLY=("${COMPREPLY[@]#"${cur%"$last"}"}")
}
complete -o default -F _@NAME@ @NAME@
