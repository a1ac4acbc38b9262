"""What the server can be told: text to values, the options, and what the machine allows.

Imports nothing of the other folders.
"""
