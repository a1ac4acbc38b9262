#!/usr/bin/env bash
# A C compiler for musl: $WORK/bin/cc. And zlib, which Debian builds for glibc, but whose inflate() needs nothing of it.
source "$(dirname "$0")/common.sh"

# musl-gcc is Debian's gcc with musl's headers and libraries. Two things are missing: the kernel's headers, and that it
# calls itself by musl's name where CPython's configure asks.
native=$(gcc -print-multiarch)
mkdir -p "$WORK"/{bin,kernel,zlib}
ln -sfn /usr/include/linux /usr/include/asm-generic "$WORK/kernel/"
ln -sfn "/usr/include/$native/asm" "$WORK/kernel/asm"
cp /usr/include/zlib.h /usr/include/zconf.h "/usr/lib/$native/libz.a" "$WORK/zlib/"
cat >"$cc" <<EOF
#!/bin/sh
[ "\$1" = --print-multiarch ] && exec echo ${native%-gnu}-musl
exec musl-gcc "\$@" -isystem $WORK/kernel
EOF
chmod +x "$cc"
