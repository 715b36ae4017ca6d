"""What travels: addresses, messages, protocols, values and errors.

Nothing in this folder knows of asyncio or of I/O; import-linter holds that.
"""
