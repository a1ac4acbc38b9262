"""Raw TCP: echo (RFC 862), discard (RFC 863) and chargen (RFC 864), and faults that are asked for."""
