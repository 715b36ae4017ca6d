/** The line to the gateway: WebSockets that are listened in on, and that can be cut. */

const CUT_CODE = 4000; // a code of ours: 1000 would say that the client has left for good

export class Line {
  #socket = null; #heldUntil = 0; #seen;

  /** @param {(way: "out" | "in", data: string) => void} seen  called for each frame */
  constructor(seen) {
    this.#seen = seen;
  }

  /** The class for a Client to take as its WebSocket. */
  get WebSocket() {
    const line = this;
    return function (url, protocols) {
      return performance.now() < line.#heldUntil ? new DeadSocket() : line.#open(url, protocols);
    };
  }

  /** Cut it, and keep it so for some seconds. @param {number} seconds */
  cut(seconds) {
    this.#heldUntil = performance.now() + seconds * 1000;
    this.#socket?.close(CUT_CODE, "cut in the playground");
  }

  #open(url, protocols) {
    const seen = this.#seen;
    const socket = new (class extends WebSocket {
      send(data) {
        seen("out", data);
        super.send(data);
      }
    })(url, protocols);
    socket.addEventListener("message", ({ data }) => seen("in", data));
    this.#socket = socket;
    return socket;
  }
}

/** What a client finds while the line is cut. */
class DeadSocket {
  readyState = 3;

  constructor() {
    setTimeout(() => this.onclose?.({ code: 1006, reason: "the line is cut" }), 0);
  }

  close() {}
}
