#!/usr/bin/env bash
# executable.sh VARIANT NAME [TO]: the executable, in $WORK/modules/VARIANT, and without symbols in TO. NAME is echoserver,
# or console: the same modules as a Python.
source "$(dirname "$0")/common.sh"
made=$WORK/modules/$1/$2 words=()

[ "$2" != console ] || words+=(-DCONSOLE)
[ "$1" != scratch ] || words+=("$openssl"/lib{ssl,crypto}.a)
executable "$made" "$WORK/objects" -O2 "$here"/{main,tables}.c "$WORK/modules/$1"/modules.{c,S} "${words[@]}"
if [ -n "${3:-}" ]; then
    mkdir -p "$3"
    strip -s -R .comment -R '.note*' -o "$3/$2" "$made"
    touch -d "@$SOURCE_DATE_EPOCH" "$3/$2"
fi
