"""Listening sockets: opened, reserved for the workers, passed by systemd.

May import answers, observe, wire and config.
"""
