"""What is spoken with clients, a folder for each protocol. A new one is named in the worker, and nowhere else.

May import layers, transport and all below them. Protocols do not import each other, but for WebSocket, which begins
as HTTP.
"""
