#!/bin/sh
# Fails when a floor reaches above itself, or when the core prints, exits or opens a file.
#   check_floors.sh ROOT
# Floors, lowest first: core, data, infer, then train and eval side by side.
set -u
root=${1:?usage: check_floors.sh ROOT}
cd "$root" || exit 2
found=0

# Prints every line of the given floor's sources that matches the pattern, comments left out.
offending() {
    find "$1" -type f \( -name '*.c' -o -name '*.h' -o -name '*.cc' \) -exec grep -lE "$2" {} + | sort |
        while read -r file; do
            sed 's://.*$::' "$file" | grep -nE "$2" | sed "s|^|$file:|"
        done
}

report() { # MESSAGE LINES
    [ -z "$2" ] && return
    found=1
    printf '%s\n%s\n' "$1" "$2"
}

for rule in 'core:data|infer|train|eval|tests' 'data:infer|train|eval|tests' 'infer:train|eval|tests' \
    'train:eval|tests' 'eval:train|tests'; do
    floor=${rule%%:*}
    if [ ! -d "$floor" ]; then
        echo "check_floors.sh: no directory $floor in $root" >&2
        exit 2
    fi
    report "$floor/ includes from a floor it must not know:" \
        "$(offending "$floor" "^[[:space:]]*#[[:space:]]*include[[:space:]]+[\"<](${rule#*:})/")"
    # A header is named by its path from the root, so that the rule above can see where it lies.
    report "$floor/ includes by a relative path:" \
        "$(offending "$floor" '^[[:space:]]*#[[:space:]]*include[[:space:]]+"([^"/]*"|\.)')"
done

calls='printf|fprintf|vprintf|vfprintf|dprintf|puts|fputs|putchar|putc|fputc|fwrite|write|perror'
calls="$calls|exit|_exit|_Exit|quick_exit|abort|fopen|fdopen|freopen|open|openat|creat|popen|mmap|system|getenv"
report 'core/ prints, exits or opens files:' "$(offending core "(^|[^A-Za-z0-9_])($calls)[[:space:]]*\\(")"
report 'core/ knows a standard stream:' "$(offending core '(^|[^A-Za-z0-9_])(stdin|stdout|stderr)([^A-Za-z0-9_]|$)')"

exit "$found"
