"""What an operator sees and does: metrics and the console, on a port of their own that only this machine reaches.

GET /metrics ----> Metrics ----> numbers of node, gate and listeners, read when asked for
/console     ----> Line -------> CONSOLE (a service) ----DEBUG----> services
`skyloom console`
"""
