"""Supervision: services that start other services, and start them anew when they crash.

Write ``from skyloom.supervision.supervisor import Supervisor`` and
``from skyloom.supervision.child import permanent, temporary, transient``.
"""
