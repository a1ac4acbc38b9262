# What the build steps share: folders, flags, functions. Each step is a script, and a RUN of ../Dockerfile.
set -euo pipefail
: "${WORK:=/build}" "${SOURCES:=/sources}" "${PGO:=on}"
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-315532800} LC_ALL=C PYTHONHASHSEED=0
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
jobs=$(nproc)
cc=$WORK/bin/cc
python=$WORK/python uvloop=$WORK/uvloop httptools=$WORK/httptools openssl=$WORK/openssl metrics=$WORK/metrics
websockets=$WORK/websockets
profile=$WORK/profile/profile-$(uname -m).tar.xz # the same in ./sources spares the training

# No unwind tables: nothing here throws C++ exceptions, and they are 390 KB.
small=(-fno-asynchronous-unwind-tables -fno-unwind-tables -ffunction-sections -fdata-sections -fno-pie
    -ffile-prefix-map="$WORK"=.)
# noseparate-code: no padding between segments
static=(-static -no-pie -Wl,--gc-sections -Wl,-z,noseparate-code -Wl,--build-id=none)

case $PGO in
    on | off) ;;
    *)
        echo "PGO=$PGO: expected on or off" >&2
        exit 2
        ;;
esac
libraries=()
optimised=(-O2 -fno-semantic-interposition)
if [ "$PGO" = off ]; then
    optimised=(-Os -flto)
elif [ -e "$profile" ]; then
    optimised+=(-flto -fprofile-use -fprofile-correction -Wno-missing-profile)
else # a profile is made before LTO begins: the same with and without, and linked in a second without
    optimised+=(-fprofile-generate)
    libraries=(-lgcov)
fi

unpack() { # unpack ARCHIVE FOLDER
    mkdir -p "$2"
    tar -xf "$1" -C "$2" --strip-components=1 --no-same-owner
}

show_end() { # show_end LOG: of a step that failed
    tail -n 30 "$1" | cut -c 1-300 >&2
    exit 1
}

executable() { # executable TO OBJECTS WORDS: of CPython, uvloop and httptools, with what WORDS say: main(), modules
    (cd "$python" && "$cc" -o "$1" "${small[@]}" "${static[@]}" -flto="$jobs" -DPy_BUILD_CORE -I"$here" \
        -I"$WORK/zlib" -IInclude -IInclude/internal -I. -IPython "${@:3}" "$2"/*.o libpython3.13.a \
        "$WORK/zlib/libz.a" -lm "${libraries[@]}")
}

# The same files that the own setup.py of uvloop, httptools and websockets compile, and the server's own.
# _Py_RestoreSignals: uvloop brings its own, with the name of one of CPython's, which a shared library would not show.
compile_extensions() { # compile_extensions FOLDER FLAGS
    local to=$1 flags=("${small[@]}" "${@:2}")
    local api=(-I"$python/Include" -I"$python") llhttp=$httptools/vendor/llhttp http_parser=$httptools/vendor/http-parser
    local libuv=$uvloop/vendor/libuv
    local uv=(-I"$libuv/include" -I"$libuv/src" -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -D_LARGEFILE_SOURCE)
    mkdir -p "$to"
    compile uvloop "${api[@]}" "${uv[@]}" -D_Py_RestoreSignals=uvloop_RestoreSignals "$uvloop/uvloop/loop.c"
    compile httptools_parser "${api[@]}" -I"$llhttp/include" "$httptools/httptools/parser/parser.c"
    compile httptools_url_parser "${api[@]}" -I"$http_parser" "$httptools/httptools/parser/url_parser.c"
    compile http_parser "$http_parser/http_parser.c"
    compile websockets "${api[@]}" "$websockets/src/websockets/speedups.c"
    for file in compiled protocols/udp wire/hpack wire/huffman wire/ordinary; do
        compile "echoserver_$(basename "$file")" "${api[@]}" "$here/../echoserver/$file.c"
    done
    for name in api http llhttp; do
        compile "llhttp_$name" -I"$llhttp/include" "$llhttp/src/$name.c"
    done
    for file in "$libuv"/src/*.c $(printf "$libuv/src/unix/%s.c " async core dl fs getaddrinfo getnameinfo linux loop \
        loop-watcher pipe poll process procfs-exepath proctitle random-devurandom random-getrandom random-sysctl-linux \
        signal stream tcp thread tty udp); do
        compile "uv_$(basename "$file" .c)" "${uv[@]}" "$file"
    done
    for job in $(jobs -p); do wait "$job"; done
}

compile() { # compile NAME WORDS: an object file, in the background; to and flags are compile_extensions'
    while (($(jobs -rp | wc -l) >= jobs)); do wait -n; done
    "$cc" -c -w -DNDEBUG -fwrapv "${flags[@]}" -o "$to/$1.o" "${@:2}" &
}
