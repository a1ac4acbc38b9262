#!/usr/bin/env bash
# parts.sh VARIANT TO: what the bytes of an executable are, as TO/VARIANT.json.
source "$(dirname "$0")/common.sh"

mkdir -p "$2"
python3 "$here/parts.py" "$WORK/modules/$1/echoserver" "/image/echoserver" "$WORK/modules/$1/modules.json" \
    "$WORK"/objects/*.o "$python/libpython3.13.a" "$openssl"/lib{ssl,crypto}.a "$WORK/zlib/libz.a" \
    "/usr/lib/$(uname -m)-linux-musl/libc.a" >"$2/$1.json"
