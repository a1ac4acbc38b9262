#!/usr/bin/env bash
# OpenSSL, trimmed to a TLS 1.2 and 1.3 server and client: AES-GCM, ChaCha20-Poly1305; RSA, ECDSA and EdDSA
# certificates; X25519, the NIST curves, ML-KEM and, because CPython wants it, finite-field Diffie-Hellman.
source "$(dirname "$0")/common.sh"

unpack "$SOURCES"/openssl-*.tar.gz "$openssl"
cd "$openssl"
# AES-GCM with AVX-512 is 0.7 MB of unrolled code. Without it, as where the assembler is older, AES-NI does the work.
avx512=crypto/modes/asm/aes-gcm-avx512.pl
sed -i 's/^if (\$avx512vaes>0) {/if (0) {/' $avx512
grep -q '^if (0) {' $avx512
./Configure "linux-$(uname -m)" CC="$cc" AR=gcc-ar RANLIB=gcc-ranlib -Os "${small[@]}" \
    no-shared no-dso no-module no-engine no-legacy no-apps no-docs no-tests no-autoload-config no-ui-console \
    no-ssl3 no-tls1 no-tls1_1 no-dtls no-quic no-sctp no-srtp no-nextprotoneg no-psk no-srp no-ktls no-ssl-trace \
    no-comp no-zlib no-ct no-ocsp no-cmp no-cms no-ts no-http no-rfc3779 no-gost no-tls-deprecated-ec \
    no-weak-ssl-ciphers no-integrity-only-ciphers no-aria no-bf no-blake2 no-camellia no-cast no-des no-idea \
    no-md4 no-mdc2 no-rc2 no-rc4 no-rc5 no-rmd160 no-seed no-siphash no-siv no-sm2 no-sm3 no-sm4 no-whirlpool \
    no-ocb no-argon2 no-scrypt no-dsa no-ec2m no-ml-dsa no-slh-dsa no-async no-afalgeng no-multiblock \
    no-thread-pool no-default-thread-pool no-sslkeylog no-uplink >"$WORK/openssl.log"
make -j"$jobs" build_libs >>"$WORK/openssl.log" 2>&1 || show_end "$WORK/openssl.log"
