"""A whole TCP client in some 30 lines: enters a room, speaks, prints what happens. Needs only msgpack.

python tcp_client.py 127.0.0.1 8001 ada lobby "hello, all"
"""

import socket
import sys

import msgpack


def send(*frame: object) -> None:
    data = msgpack.packb(frame)
    link.sendall(len(data).to_bytes(2, "big") + data)


host, port, name, room, text = sys.argv[1:]
with socket.create_connection((host, int(port))) as link:
    send(0, {"auth": {"scheme": "guest", "name": name}})
    while head := link.recv(2, socket.MSG_WAITALL):
        match msgpack.unpackb(link.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)):
            case [1, welcome, *_]:
                print("welcome", welcome["user"], flush=True)
                send(2, 1, "chat.create_room", msgpack.packb({"room": room}))
                send(2, 2, "chat.join", msgpack.packb({"room": room}))
                send(2, 3, "chat.say", msgpack.packb({"room": room, "text": text}))
            case [3, id, body, *_]:
                print("answer", id, msgpack.unpackb(body), flush=True)
            case [4, id, error, *_]:
                print("error", id, error["code"], flush=True)
            case [6, seq, route, body, *_]:
                print("push", seq, route, msgpack.unpackb(body), flush=True)
            case [9, *_]:
                send(10)
