#!/usr/bin/env bash
# ./kv itself, in a copy of what it needs: --help and words it does not know touch nothing, whatever the command; links to it work
# from anywhere; clean takes builds and nothing else. apt-get, meson and their like are stand-ins that write down their calls.
# usage: kv.sh ROOT
set -euo pipefail
root=$(realpath "$1")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
clone="$dir/a clone" calls=$dir/calls
failures=0

fail() { # MESSAGE
  echo "failed: $1" >&2
  failures=$((failures + 1))
}

make_clone() {
  mkdir -p "$clone/notebooks" "$clone/tests/programs" "$clone"/runs/{quickstart,snippets,atlas} "$clone/builder"
  cp "$root/kv" "$clone/kv"
  cp -r "$root/configs" "$clone"
  cp "$root/notebooks/render.sh" "$clone/notebooks"
  cp "$root/tests/programs/smoke.sh" "$clone/tests/programs"
  local build
  for build in build build-{sanitize,clang,baseline,own}; do
    mkdir -p "$clone/$build"/{meson-private,data,train,eval,tests}
    touch "$clone/$build/build.ninja"
  done
  touch "$clone/runs/quickstart/results.csv"
}

make_stand_ins() {
  mkdir "$dir/bin"
  local name
  for name in apt-get dpkg-query sudo meson ninja jupyter-nbconvert kvdata kvtrain kveval kvbench; do
    printf '#!/bin/sh\necho "%s in $PWD" >>"%s"\n' "$name" "$calls" >"$dir/bin/$name"
    chmod +x "$dir/bin/$name"
  done
  printf '#!/bin/sh\necho installed\n' >"$dir/bin/dpkg-query"
  for name in data/kvdata train/kvtrain eval/kveval tests/kvbench; do
    cp "$dir/bin/$(basename $name)" "$clone/build/$name"
  done
}

snapshot() {
  find "$clone" -printf '%P %T@ %s\n' | sort
}

# It ends with STATUS, says PATTERN, and touches nothing.
touches_nothing() { # STATUS PATTERN ARGUMENT...
  local expected=$1 pattern=$2 status=0
  shift 2
  timeout 60 "$clone/kv" "$@" >"$dir/said" 2>&1 </dev/null || status=$?
  [ "$status" = "$expected" ] || fail "kv $*: exit status $status, expected $expected: $(tail -n 1 "$dir/said")"
  grep -qE -- "$pattern" "$dir/said" || fail "kv $*: says '$(head -n 1 "$dir/said")', expected $pattern"
  [ ! -e "$calls" ] || fail "kv $*: calls $(paste -sd, "$calls")"
  rm -f "$calls"
  snapshot | cmp -s - "$dir/before" || {
    fail "kv $*: changes files"
    rm -rf "$clone" "${dir:?}/bin"
    make_clone
    make_stand_ins
    snapshot >"$dir/before"
  }
}

make_clone
make_stand_ins
export PATH=$dir/bin:$PATH
unset KV_BUILD
snapshot >"$dir/before"

# ---- Help and unknown words ----------------------------------------------------------------------------

mapfile -t commands < <("$clone/kv" help | sed -nE 's/^  ([a-z]+) .*/\1/p')
[ ${#commands[@]} -ge 10 ] || fail "kv help lists ${#commands[@]} commands, expected 10 or more"
touches_nothing 0 '^usage: ' help
touches_nothing 0 '^usage: '
touches_nothing 2 "^kv: unknown command 'nonsense', expected .*clean" nonsense
touches_nothing 2 "^kv: unknown command 'nonsense', expected .*clean" help nonsense
touches_nothing 2 "^kv: unknown command '', expected .*clean" ''
touches_nothing 2 "^kv: unknown command '', expected .*clean" help ''
for command in "${commands[@]}"; do
  touches_nothing 0 "^usage: .*kv $command" "$command" --help
  touches_nothing 0 "^usage: .*kv $command" "$command" -h
  touches_nothing 0 "^usage: .*kv $command" help "$command"
  for unknown in nonsense --nonsense '' '*'; do
    touches_nothing 2 "^kv: $command: (unknown argument|found) '.*', expected" "$command" "$unknown"
  done
done
touches_nothing 2 "^kv: curve: found '', expected MODEL of: MODEL TEXT" curve
touches_nothing 2 "^kv: ranks: found '--weak', expected CONFIG of: CONFIG" ranks --weak
touches_nothing 2 "^kv: curve: found '--depths', expected TEXT of: MODEL TEXT" curve model --depths all
# Wherever it stands.
touches_nothing 0 '^usage: .*kv test' test --clang --help
touches_nothing 2 "'nonsense', expected .*--clang" test --clang nonsense
touches_nothing 2 "'nonsense', expected .*lambda" ablations lambda nonsense
touches_nothing 2 "'nonsense', expected .*pareto" notebooks tour nonsense
touches_nothing 2 "'--code' behind '--facts'" quickstart --facts --code

# ---- Links ---------------------------------------------------------------------------------------------

# Runs from somewhere else, and works in the clone.
works_through() { # COMMAND-LINE
  local place=$dir/elsewhere
  (cd "$place" && bash -c "$1 build") >"$dir/said" 2>&1 </dev/null || fail "$1 build: $(tail -n 1 "$dir/said")"
  [ "$(cat "$calls" 2>/dev/null)" = "ninja in $clone" ] || fail "$1 build: $(cat "$calls" 2>/dev/null || echo 'no call of ninja')"
  rm -f "$calls"
  (cd "$place" && bash -c "$1 notebooks nonsense") >"$dir/said" 2>&1 </dev/null || true
  grep -q 'pareto' "$dir/said" || fail "$1 notebooks nonsense: $(tail -n 1 "$dir/said")"
}
mkdir "$dir/elsewhere" "$dir/links"
ln -s "$clone/kv" "$dir/links/kv"
ln -s "../a clone/kv" "$dir/links/relative"
ln -s relative "$dir/links/twice"
ln -s "$clone" "$dir/links/folder"
works_through "'$clone/kv'"
works_through "'../a clone/kv'"
works_through ../links/kv
works_through ../links/relative
works_through ../links/twice
works_through ../links/folder/kv
works_through "PATH='$dir/links':\$PATH; CDPATH=/tmp kv"
works_through "PATH='$dir/links':\$PATH; bash ../links/relative"

# Paths are those of the caller.
mkdir -p "$dir/elsewhere/mine"
touch "$dir/elsewhere/mine/build.ninja"
printf '#!/bin/sh\necho "$2 $KV_PARETO $KV_LONG_TESTS" >>"%s"\n' "$calls" >"$dir/bin/ninja"
(cd "$dir/elsewhere" && KV_BUILD=mine KV_PARETO=../eval KV_LONG_TESTS=1 ../links/kv build) >/dev/null
[ "$(cat "$calls")" = "$dir/elsewhere/mine $dir/eval 1" ] || fail "KV_BUILD=mine KV_PARETO=../eval: $(cat "$calls")"

printf '#!/bin/sh\necho "$PWD: $*" >>"%s"\n' "$calls" >"$clone/build/eval/kveval"
rm "$calls"
(cd "$dir/elsewhere" && ../links/kv curve my/base/final/model/ text --depths 1 && ../links/kv curve random:name text) >/dev/null
expected="$dir/elsewhere: curve --base my/base/final/model/ --text text --out $clone/runs/curve/base --depths 1
$dir/elsewhere: curve --base random:name --text text --out $clone/runs/curve/name"
[ "$(grep curve "$calls")" = "$expected" ] || fail "kv curve: $(cat "$calls")"

# Nor does the caller's way of changing directories matter.
mkdir -p "$dir/trap/notebooks"
cp "$clone/notebooks/render.sh" "$dir/render.sh"
printf '#!/bin/bash\ncd notebooks/.. && echo "render in $PWD" >>"%s"\n' "$calls" >"$clone/notebooks/render.sh"
(cd "$dir/elsewhere" && CDPATH=$dir/trap ../links/kv notebooks tour) >/dev/null
grep -qx "render in $clone" "$calls" || fail "CDPATH=$dir/trap kv notebooks: $(grep render "$calls")"
cp "$dir/render.sh" "$clone/notebooks/render.sh"

# ---- Installing ----------------------------------------------------------------------------------------

printf '#!/bin/sh\necho "$* ${DESTDIR-}" >>"%s"\n' "$calls" >"$dir/bin/meson"
rm "$calls"
(cd "$dir/elsewhere" && DESTDIR=package ../links/kv install --prefix ../other && ../links/kv install && ../links/kv install --prefix=/opt/kv) >/dev/null
expected="configure build --prefix $dir/other $dir/elsewhere/package
install -C build --quiet $dir/elsewhere/package
install -C build --quiet 
configure build --prefix /opt/kv 
install -C build --quiet "
[ "$(grep -E '^(configure|install) ' "$calls")" = "$expected" ] || fail "kv install: $(cat "$calls")"
rm "$calls"
for empty in --prefix= "--prefix ''"; do
  ! (cd "$dir/elsewhere" && bash -c "../links/kv install $empty") >/dev/null 2>"$dir/said" || fail "kv install $empty: works"
  grep -q "found '' behind '--prefix', expected DIR" "$dir/said" && [ ! -e "$calls" ] || fail "kv install $empty: $(cat "$dir/said")"
done

# ---- What clean takes, and what a build that cannot be configured leaves -----------------------------------

cp -r "$clone" "$dir/kept"
"$clone/kv" clean
[ "$(cd "$clone" && echo build* runs/*)" = "builder runs/atlas" ] || fail "clean leaves $(cd "$clone" && echo build* runs/*)"
mkdir -p "$dir/own/files"
KV_BUILD=$dir/own "$clone/kv" clean
[ -d "$dir/own/files" ] || fail "clean takes a KV_BUILD that is no build"
printf '#!/bin/sh\nmkdir -p "$2"\nexit 1\n' >"$dir/bin/meson"
! KV_BUILD=$dir/own "$clone/kv" build >/dev/null 2>&1 || fail "build: works without meson"
[ -d "$dir/own/files" ] || fail "build takes a KV_BUILD that is no build"
! "$clone/kv" build >/dev/null 2>&1 || fail "build: works without meson"
[ ! -e "$clone/build" ] || fail "build leaves a build that could not be configured"
KV_BUILD=/proc/build "$clone/kv" build >/dev/null 2>"$dir/said" && fail "build: works in /proc" # nobody can write there, not even root
[ "$(cat "$dir/said")" = "kv: cannot write to /proc/build; KV_BUILD=DIR builds elsewhere" ] || fail "KV_BUILD=/proc/build: $(cat "$dir/said")"

[ "$failures" = 0 ] || {
  echo "$failures failed" >&2
  exit 1
}
echo "${#commands[@]} commands"
