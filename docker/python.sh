#!/usr/bin/env bash
# CPython's core and its modules in C as a library, and uvloop and httptools as object files, optimised; nothing is
# linked yet. Instrumented where a profile is wanted (PGO=on) and there is none.
source "$(dirname "$0")/common.sh"
log=$WORK/python.log

mkdir -p "$(dirname "$profile")"
given=$here/sources/$(basename "$profile")
if [ "$PGO" = on ] && [ ! -e "$profile" ] && [ -e "$given" ]; then
    cp "$given" "$profile"
    exec "$0"
fi

cd "$python"
find . -name '*.[oa]' -delete
[ ! -e "$profile" ] || tar -C "$WORK" -xf "$profile"
make -j"$jobs" -o Programs/_freeze_module -o _bootstrap_python libpython3.13.a CFLAGS_NODIST="${optimised[*]}" \
    >"$log" 2>&1 || show_end "$log"
compile_extensions "$WORK/objects" "${optimised[@]}"
