"""Tic-tac-toe for many players: see docs/howto/an-app-with-services.md."""
