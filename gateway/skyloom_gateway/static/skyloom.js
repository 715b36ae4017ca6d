/**
 * A client of a Skyloom gateway, for browsers and Node. JSON over WebSocket, protocol version 1.
 *
 *     import { connect, RequestError } from "/skyloom.js";
 *
 *     const client = await connect({ auth: { scheme: "guest", name: "ada" } });
 *     client.on("chat.message", (message) => console.log(message.user, message.text));
 *     const joined = await client.request("chat.join", { room: "lobby" });
 *
 * A client reconnects by itself. A reconnect may begin a new session, which knows nothing of the old one: listen for the
 * `session` event and set up again what you had (rejoin rooms, reload lists). All times are in seconds.
 *
 *     SkyloomError
 *      ├── RequestError     the answer to a request is an error: code, kind, message, retryable, details
 *      ├── RequestTimeout   no answer in time; the request may have run
 *      ├── ConnectionLost   the connection ended; `sent` false means the request surely did not run
 *      ├── HelloRefused     the gateway does not let this client in: code, message, closeCode
 *      └── PushOverflow     a consumer of pushes() was too slow: `missed` pushes are gone
 */

const SUBPROTOCOL = "skyloom.v1.json";
const CONNECT_TIMEOUT_SECONDS = 10;
const REQUEST_TIMEOUT_SECONDS = 10;
const WELCOME_TIMEOUT_SECONDS = 10;
const HEARTBEAT_SECONDS = 20; // until the welcome names the gateway's own
const BACKOFF_BASE_SECONDS = 0.5;
const BACKOFF_MAX_SECONDS = 20;
const STABLE_SECONDS = 10; // a connection that lived this long starts the back-off anew
const PUSH_BUFFER_MAX = 1024;
const REQUEST_ID_MAX = 2 ** 32 - 1;
/** Close codes after which connecting again cannot help: unauthenticated, forbidden, replaced by a newer connection. */
const FINAL_CLOSE_CODES = new Set([4401, 4403, 4409]);

export class SkyloomError extends Error {
  get name() { return this.constructor.name; }
}

/** `code` is stable and namespaced, such as "chat.room_not_found"; `kind` is one of the protocol's twelve. */
export class RequestError extends SkyloomError {
  constructor({ code = "gateway.unknown", kind = "internal", message, retryable = false, details = {} }, route) {
    super(message || code);
    Object.assign(this, { code, kind, retryable, details, route });
  }
}

export class RequestTimeout extends SkyloomError {
  constructor(route, seconds) { super(`no answer to ${route} within ${seconds} s; it may have run`); }
}

export class ConnectionLost extends SkyloomError {
  constructor(reason, { closeCode, sent = true } = {}) {
    super(reason);
    Object.assign(this, { closeCode, sent });
  }
}

export class HelloRefused extends SkyloomError {
  constructor(error, closeCode) {
    super(error?.message || `the gateway closed the connection (${closeCode})`);
    Object.assign(this, { code: error?.code, closeCode });
  }
}

export class PushOverflow extends SkyloomError {
  constructor(route, missed) {
    super(`${missed} pushes of ${route} were dropped: the consumer is too slow`);
    this.missed = missed;
  }
}

/**
 * @typedef {object} Options
 * @property {object} auth               the hello's, such as {scheme: "guest", name: "ada"}
 * @property {boolean} [reconnect]       connect again after a loss (default true)
 * @property {number} [timeout]          seconds for a request, unless it says otherwise (default 10)
 * @property {number} [connectTimeout]   seconds until the first welcome; Infinity keeps trying (default 10)
 * @property {typeof WebSocket} [WebSocket]  the class to use where there is no global one (Node 20: that of `ws`)
 */

/**
 * Connect, and wait for the welcome. Rejects with HelloRefused or ConnectionLost.
 * @param {string | Options} [url]  "wss://host/ws"; left out in a page, its own host's /ws
 * @param {Options} [options] @returns {Promise<Client>}
 */
export async function connect(url, options) {
  const client = new Client(url, options);
  await client.open();
  return client;
}

/**
 * One client, over as many connections as it takes.
 *
 * Events, by addEventListener:
 *  - "status"  detail {status: "connecting" | "open" | "closed", reason, closeCode, retryIn}; retryIn in seconds, or null
 *  - "session" detail {user, session, recovered, first}; with recovered false a new session begins: rejoin what you need
 *  - "drain"   detail {reason, reconnectIn}: the gateway is about to close
 *  - "error"   detail RequestError: about the session or a notify, not about a request
 */
export class Client extends EventTarget {
  /** "connecting", "open" or "closed". */
  status = "connecting";
  user = null;
  session = null;
  /** @type {{frame_bytes?: number, messages_per_second?: number}} */ limits = {};
  /** Answers that came after their request had timed out. */
  lateAnswers = 0;

  #url; #options; #WebSocket; #socket = null; #timers = {}; #attempts = 0; #openedAt = 0; #opened = null;
  #lastId = 0; #pending = new Map(); #listeners = new Map(); #streams = new Map();
  #heartbeat = HEARTBEAT_SECONDS; #drainDelay = null; #refusal = null; #welcomed = false; #online = () => this.retry();

  /** @param {string | Options} [url] @param {Options} [options] */
  constructor(url, options) {
    super();
    if (typeof url === "object" && url !== null) [url, options] = [undefined, url];
    if (!options?.auth) throw new TypeError('options.auth is missing; pass for example {scheme: "guest", name: "ada"}');
    this.#options = options;
    this.#url = url ?? pageUrl();
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (!this.#WebSocket) throw new TypeError("there is no global WebSocket here; pass one as options.WebSocket");
  }

  /** Start connecting; resolves at the first welcome. `connect` does this for you. @returns {Promise<void>} */
  open() {
    if (this.#opened) return this.#opened.promise;
    this.#opened = deferred();
    const seconds = this.#options.connectTimeout ?? CONNECT_TIMEOUT_SECONDS;
    if (Number.isFinite(seconds)) {
      this.#timer("first", seconds, () => this.#end(new ConnectionLost(`no welcome within ${seconds} s`, { sent: false })));
    }
    globalThis.addEventListener?.("online", this.#online);
    try {
      this.#dial();
    } catch (error) {
      this.#end(new ConnectionLost(`cannot connect to ${this.#url}: ${error.message}`, { sent: false })); // a bad address
    }
    return this.#opened.promise;
  }

  /**
   * Send a request. Rejects with RequestError, RequestTimeout or ConnectionLost (at once when not connected).
   * @param {string} route @param {object} [body] @param {{timeout?: number}} [options] timeout in seconds
   * @returns {Promise<any>}
   */
  request(route, body = {}, { timeout = this.#options.timeout ?? REQUEST_TIMEOUT_SECONDS } = {}) {
    return new Promise((resolve, reject) => {
      const id = this.#nextId();
      this.#send({ type: "request", id, route, body });
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(new RequestTimeout(route, timeout));
      }, timeout * 1000);
      this.#pending.set(id, { route, resolve, reject, timer });
    });
  }

  /** Send a message that has no answer and may be lost. Throws ConnectionLost when not connected. */
  notify(route, body = {}) { this.#send({ type: "notify", route, body }); }

  /**
   * Call `fn(body, push)` for each push of `route`. Returns a function that ends it.
   * @param {string} route @param {(body: any, push: {seq: number, route: string, body: any}) => void} fn @returns {() => void}
   */
  on(route, fn) { return addTo(this.#listeners, route, fn); }

  /**
   * The pushes of `route` from now on: `for await (const {body} of client.pushes("chat.message"))`.
   * At most `bufferMax` wait; then they are dropped and the iterator throws PushOverflow in their place, and goes on.
   * It ends when the client is closed, and lives through reconnects.
   */
  pushes(route, { bufferMax = PUSH_BUFFER_MAX } = {}) {
    const stream = new PushStream(route, bufferMax, () => leave());
    const leave = addTo(this.#streams, route, stream);
    if (this.status === "closed") stream.finish();
    return stream;
  }

  /** While waiting to reconnect: try now. */
  retry() {
    if (this.status === "connecting" && !this.#socket && this.#opened) this.#dial();
  }

  /** Close for good. Waiting requests reject with ConnectionLost, streams end. */
  close() { this.#end(new ConnectionLost("closed by this client", { closeCode: 1000 }), 1000); }

  #dial() {
    clearTimeout(this.#timers.retry);
    this.#refusal = this.#drainDelay = null;
    this.#welcomed = false;
    this.#status("connecting", {});
    const socket = (this.#socket = new this.#WebSocket(this.#url, SUBPROTOCOL));
    const current = (fn) => (event) => this.#socket === socket && fn(event);
    socket.onopen = current(() => {
      socket.send(JSON.stringify({ type: "hello", auth: this.#options.auth, client: { name: "skyloom.js" } }));
    });
    socket.onmessage = current((event) => this.#received(event.data));
    socket.onerror = () => {}; // a close event follows, which says more
    socket.onclose = current((event) => this.#dropped(event.code, event.reason));
    this.#timer("welcome", WELCOME_TIMEOUT_SECONDS, () => this.#dropped(1006, "no welcome in time"));
  }

  #received(data) {
    this.#listen();
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return this.#dropped(1007, "the gateway sent a frame that is not JSON");
    }
    if (frame.type === "welcome") this.#greeted(frame);
    else if (frame.type === "push") this.#pushed(frame);
    else if (frame.type === "response") this.#take(frame.id)?.resolve(frame.body);
    else if (frame.type === "error" && frame.id) {
      const waiting = this.#take(frame.id);
      waiting?.reject(new RequestError(frame.error ?? {}, waiting.route));
    } else if (frame.type === "error") {
      this.#refusal = frame.error ?? {};
      if (this.#welcomed) this.#emit("error", new RequestError(this.#refusal));
    } else if (frame.type === "drain") {
      this.#drainDelay = Math.max(0, Number(frame.reconnect_in) || 0);
      this.#emit("drain", { reason: frame.reason ?? "", reconnectIn: this.#drainDelay });
    } else if (frame.type === "ping") this.#socket.send('{"type":"pong"}');
  }

  #greeted(welcome) {
    const first = this.session === null;
    for (const name of ["welcome", "first"]) clearTimeout(this.#timers[name]);
    this.#welcomed = true;
    this.#openedAt = performance.now();
    [this.user, this.session, this.limits] = [welcome.user, welcome.session, welcome.limits ?? {}];
    this.#heartbeat = welcome.heartbeat > 0 ? welcome.heartbeat : HEARTBEAT_SECONDS;
    this.#listen();
    this.#status("open", {});
    this.#opened.resolve();
    this.#emit("session", { user: this.user, session: this.session, recovered: welcome.recovered === true, first });
  }

  #pushed(push) {
    for (const stream of this.#streams.get(push.route) ?? []) stream.offer(push);
    for (const fn of [...(this.#listeners.get(push.route) ?? [])]) {
      try {
        fn(push.body, push);
      } catch (error) {
        // One listener's bug must not keep the push from the others, nor stay hidden.
        queueMicrotask(() => { throw error; });
      }
    }
  }

  /** Any frame is life. After one silent heartbeat ping, after one more give the connection up. */
  #listen() {
    this.#timer("silence", this.#heartbeat, () => {
      if (!this.#welcomed) return;
      this.#socket.send('{"type":"ping"}');
      this.#timer("silence", this.#heartbeat, () => this.#dropped(1006, "the gateway fell silent"));
    });
  }

  /** The connection is gone: fail what waits, then try again or end. */
  #dropped(closeCode, reason) {
    const wasOpen = this.#welcomed;
    this.#release();
    const why = this.#refusal?.message || reason || (wasOpen ? "the connection was lost" : "no answer");
    const lost = new ConnectionLost(why, { closeCode });
    this.#failPending(lost);
    if (FINAL_CLOSE_CODES.has(closeCode) || this.#options.reconnect === false) {
      return this.#end(wasOpen ? lost : new HelloRefused(this.#refusal ?? { message: why }, closeCode));
    }
    if (wasOpen && performance.now() - this.#openedAt > STABLE_SECONDS * 1000) this.#attempts = 0;
    const ceiling = Math.min(BACKOFF_MAX_SECONDS, BACKOFF_BASE_SECONDS * 2 ** this.#attempts);
    this.#attempts += 1;
    // Between half and all of the ceiling: clients that were dropped together do not return together. A drain's delay is
    // jittered by the gateway already.
    const delay = this.#drainDelay ?? ceiling * (0.5 + Math.random() / 2);
    this.#status("connecting", { reason: why, closeCode, retryIn: delay });
    this.#timer("retry", delay, () => this.#dial());
  }

  #end(error, socketCode) {
    if (this.status === "closed") return;
    this.#release(socketCode);
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    globalThis.removeEventListener?.("online", this.#online);
    this.#failPending(error);
    this.#status("closed", { reason: error.message, closeCode: error.closeCode });
    this.#opened?.reject(error);
    for (const streams of this.#streams.values()) for (const stream of [...streams]) stream.finish();
    this.#streams.clear();
  }

  #release(code) {
    const socket = this.#socket;
    this.#socket = null; // its late events are ignored from here on
    this.#welcomed = false;
    for (const name of ["welcome", "silence"]) clearTimeout(this.#timers[name]);
    if (socket && socket.readyState < 2) socket.close(...(code ? [code] : []));
  }

  #failPending(error) {
    for (const id of [...this.#pending.keys()]) this.#take(id).reject(error);
  }

  #take(id) {
    const waiting = this.#pending.get(id);
    if (!waiting) this.lateAnswers += 1;
    else clearTimeout(waiting.timer);
    this.#pending.delete(id);
    return waiting;
  }

  #send(frame) {
    if (this.status !== "open") throw new ConnectionLost("not connected", { sent: false });
    this.#socket.send(JSON.stringify(frame));
  }

  #nextId() {
    do this.#lastId = (this.#lastId % REQUEST_ID_MAX) + 1; while (this.#pending.has(this.#lastId));
    return this.#lastId;
  }

  #status(status, { reason = "", closeCode = null, retryIn = null }) {
    this.status = status;
    this.#emit("status", { status, reason, closeCode, retryIn });
  }

  #emit(name, detail) { this.dispatchEvent(new CustomEvent(name, { detail })); }

  #timer(name, seconds, fn) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(fn, seconds * 1000);
  }
}

/** Pushes on their way to one consumer. */
class PushStream {
  #route; #bufferMax; #leave; #waiting = []; #missed = 0; #done = false; #wake = null;

  constructor(route, bufferMax, leave) { [this.#route, this.#bufferMax, this.#leave] = [route, bufferMax, leave]; }

  [Symbol.asyncIterator]() { return this; }

  async next() {
    for (;;) {
      if (this.#waiting.length) return { done: false, value: this.#waiting.shift() };
      if (this.#missed) {
        const missed = this.#missed;
        this.#missed = 0;
        throw new PushOverflow(this.#route, missed);
      }
      if (this.#done) return { done: true, value: undefined };
      await (this.#wake ??= deferred()).promise;
    }
  }

  /** Called when a `for await` is left; the stream is over. */
  async return() {
    this.#waiting = [];
    this.#leave();
    this.finish();
    return { done: true, value: undefined };
  }

  offer(push) {
    // While a gap is open everything is missed, so that the gap stays in one place.
    if (this.#missed || this.#waiting.length >= this.#bufferMax) this.#missed += 1;
    else this.#waiting.push(push);
    this.#rouse();
  }

  finish() {
    this.#done = true;
    this.#rouse();
  }

  #rouse() {
    this.#wake?.resolve();
    this.#wake = null;
  }
}

function addTo(map, key, value) {
  if (!map.has(key)) map.set(key, new Set());
  map.get(key).add(value);
  return () => map.get(key)?.delete(value);
}

function deferred() {
  let resolve, reject;
  const promise = new Promise((a, b) => { resolve = a; reject = b; });
  promise.catch(() => {}); // whoever awaits it still sees the rejection; nobody need
  return { promise, resolve, reject };
}

function pageUrl() {
  if (!globalThis.location) throw new TypeError('pass the gateway\'s address, such as "ws://127.0.0.1:8000/ws"');
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`;
}
