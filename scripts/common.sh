# Shared by the scripts beside it: where things are, and how to say things.
# Colours on a terminal only.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# The compiler cache serves any checkout: paths under the tree are relative in it.
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1
models=${CONCLAVE_MODELS:-$HOME/.cache/conclave/models}
if [ -t 1 ]; then bold=$'\e[1m'; dim=$'\e[2m'; red=$'\e[31m'; off=$'\e[0m'
else bold=; dim=; red=; off=; fi
say() { printf '%s==>%s %s\n' "$bold" "$off" "$*"; }
fail() { printf '%serror:%s %s\n' "$red" "$off" "$*" >&2; exit 1; }
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else fail "this step needs root: run it as root, or install sudo"; fi
}
# quietly LOG COMMAND...: shows the log's end only when the command fails.
quietly() {
  local log=$1; shift
  if ! "$@" >"$log" 2>&1; then
    tail -n 25 "$log" >&2
    fail "\"$*\" failed; the whole log is $log"
  fi
}
# configure PRESET: when there is no build folder, or CMakePresets.json is not
# what it was made with. With a fresh cache: an old one keeps its compiler.
configure() {
  local folder=build/$1
  if [ -e "$folder/build.ninja" ]; then
    if [ -e "$folder/.presets" ]; then
      ! cmp -s CMakePresets.json "$folder/.presets" || return 0
    else  # made by hand
      [ CMakePresets.json -nt "$folder/build.ninja" ] || return 0
    fi
  fi
  quietly "$folder.log" cmake --fresh --preset "$1"
  cp CMakePresets.json "$folder/.presets"
}
