"""What every connection has, whatever its protocol: a write queue, a reading gate, deadlines, an end, an account.

May import sockets, answers, observe, wire and config.
"""
