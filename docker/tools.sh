#!/usr/bin/env bash
# CPython, configured, and what is only needed to build: the interpreters that freeze importlib, and $WORK/console, a
# Python with everything that was compiled, which takes its modules from files. All of it built fast, not optimised.
source "$(dirname "$0")/common.sh"
log=$WORK/tools.log

unpack "$SOURCES"/Python-*.tar.xz "$python"
unpack "$SOURCES"/uvloop-*.tar.gz "$uvloop"
unpack "$SOURCES"/httptools-*.tar.gz "$httptools"
unpack "$SOURCES"/websockets-*.tar.gz "$websockets"
python3 -m zipfile -e "$SOURCES"/prometheus_client-*.whl "$metrics"
cd "$python"
cp "$here/Setup.local" Modules/Setup.local
./configure CC="$cc" AR=gcc-ar RANLIB=gcc-ranlib MODULE_BUILDTYPE=static LINKFORSHARED=" " OPT="-DNDEBUG -fwrapv" \
    CPPFLAGS="-I$WORK/zlib -I$openssl/include" CFLAGS="${small[*]}" LDFLAGS="-L$WORK/zlib -L$openssl ${static[*]}" \
    --disable-shared --disable-test-modules --without-doc-strings --without-ensurepip --without-mimalloc \
    --without-readline ac_cv_file__dev_ptmx=yes ac_cv_file__dev_ptc=no >"$log" 2>&1 || show_end "$log"
make -j"$jobs" Programs/_freeze_module _bootstrap_python libpython3.13.a CFLAGS_NODIST=-O0 >>"$log" 2>&1 || show_end "$log"
compile_extensions "$WORK/tools" -O0

{
    echo 'extern void *PyInit_loop(void), *PyInit_parser(void), *PyInit_url_parser(void), *PyInit_speedups(void);'
    echo 'extern void *PyInit__echoserver(void);'
    sed 's|/\* Sentinel \*/|{"uvloop.loop", PyInit_loop}, {"httptools.parser.parser", PyInit_parser},\n&|
        s|/\* Sentinel \*/|{"httptools.parser.url_parser", PyInit_url_parser},\n&|
        s|/\* Sentinel \*/|{"websockets.speedups", PyInit_speedups},\n&|
        s|/\* Sentinel \*/|{"_echoserver", PyInit__echoserver},\n&|' Modules/config.c
    echo '#include "modules.h"'
    echo 'const unsigned char modules_deflated[1]; const unsigned long modules_deflated_size, modules_size;'
    echo 'struct _frozen modules_frozen[1];'
} >"$WORK/tools/modules.c"
executable "$WORK/console" "$WORK/tools" -w -DCONSOLE "$here/main.c" "$WORK/tools/modules.c" "$openssl"/lib{ssl,crypto}.a
