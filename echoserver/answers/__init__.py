"""What a request may ask for besides an echo, whatever HTTP's version: controls, descriptions, the browser's page.

May import observe, wire and config.
"""
