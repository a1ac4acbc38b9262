#!/usr/bin/env bash
# modules.sh VARIANT: which modules go in, and the block that holds them. scratch: all; minimal: no TLS, WebSocket and metrics.
source "$(dirname "$0")/common.sh"
folder=$WORK/modules/$1 lib=$WORK/modules/$1/lib

rm -rf "$folder"
mkdir -p "$lib"
tar -C "$python/Lib" -c --exclude={test,tests,idlelib,tkinter,ensurepip,turtledemo,site-packages,__pycache__} . |
    tar -C "$lib" -x
cp -r "$uvloop/uvloop" "$httptools/httptools" "$here/../echoserver" "$here"/stand_ins/{ascii,few_hashes}/. "$lib/"
if [ "$1" = minimal ]; then
    cp -r "$here"/stand_ins/no_tls/. "$lib/"
else
    cp -r "$metrics/prometheus_client" "$websockets/src/websockets" "$here"/stand_ins/no_servers/. "$lib/"
fi

run() { CONSOLE_PATH=$lib "$WORK/console" "$@"; }
linked=(uvloop.loop httptools.parser.parser httptools.parser.url_parser _echoserver)
wanted=()
[ "$1" != scratch ] || linked+=(websockets.speedups) wanted+=(ssl)
run "$here/trace.py" "$folder/names" "${wanted[@]}"
run "$here/freeze.py" "$lib" "$folder/names" "$folder" "${linked[@]}"
