#!/usr/bin/env bash
# The profile: trains an instrumented executable, and compiles everything again with what was learnt. Does nothing where
# there is a profile, or none is wanted.
source "$(dirname "$0")/common.sh"
[ "$PGO" = on ] && [ ! -e "$profile" ] || exit 0

"$here/modules.sh" scratch
"$here/executable.sh" scratch echoserver
find "$WORK" -name '*.gcda' -delete # what the tools above have done does not count
PYTHONPATH=$here/.. python3 "$here/train.py" "$WORK/modules/scratch/echoserver"
cd "$WORK"
find . -name '*.gcda' >list
tar -T list --sort=name --owner=0 --group=0 --mtime="@$SOURCE_DATE_EPOCH" -cJf "$profile"
"$here/python.sh"
