"""The process that starts the workers, keeps as many as are asked for, and ends them.

May import everything but the command line.
"""
