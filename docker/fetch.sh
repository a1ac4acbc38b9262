#!/usr/bin/env bash
# fetch.sh NAME SHA256 URL: an archive into $SOURCES, from ./sources where it lies there already; checked in both cases.
source "$(dirname "$0")/common.sh"

mkdir -p "$SOURCES"
if [ -e "$here/sources/$1" ]; then
    cp "$here/sources/$1" "$SOURCES/"
else
    python3 -c 'import sys, urllib.request as r; r.urlretrieve(*sys.argv[1:])' "$3" "$SOURCES/$1" 2>"$SOURCES/log" || {
        echo "$3: $(tail -n 1 "$SOURCES/log") (docker/sources/README.md says how to do without)" >&2
        exit 1
    }
fi
echo "$2  $SOURCES/$1" | sha256sum --check --strict
