"""Between nodes: the transport's interface and its in-memory twin."""
