"""Runs a command on a kernel without IPv6, as far as the command can tell: without.py COMMAND ...

socket(AF_INET6, ...) fails with EAFNOSUPPORT, by a seccomp filter (seccomp(2)), as where the kernel has none.
"""

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

_SYSCALLS = {"x86_64": 41, "aarch64": 198}  # socket(2)
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06  # of 32 bits each (linux/bpf_common.h)
_NUMBER, _FIRST_ARGUMENT = 0, 16  # where they stand in struct seccomp_data, on little-endian machines
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def main() -> None:
    """Install the filter, and become the command."""
    program = b"".join(
        struct.pack("=HBBI", *each)
        for each in (
            (_LOAD, 0, 0, _NUMBER),
            (_JUMP_EQUAL, 0, 3, _SYSCALLS[platform.machine()]),
            (_LOAD, 0, 0, _FIRST_ARGUMENT),
            (_JUMP_EQUAL, 0, 1, socket.AF_INET6),
            (_RETURN, 0, 0, _ERRNO | errno.EAFNOSUPPORT),
            (_RETURN, 0, 0, _ALLOW),
        )
    )
    held = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("@HP", len(program) // 8, ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, _FILTER, filter_, 0, 0):
        sys.exit(f"no seccomp: {os.strerror(ctypes.get_errno())}")
    os.execvp(sys.argv[1], sys.argv[1:])


main()
