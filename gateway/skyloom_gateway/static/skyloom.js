/**
 * A client of a Skyloom gateway, for browsers and Node. JSON over WebSocket, protocol version 1.
 *
 *     import { connect, RequestError } from "/skyloom.js";
 *
 *     const client = await connect({ auth: { scheme: "guest", name: "ada" } });
 *     client.on("chat.message", (message) => console.log(message.user, message.text));
 *     const joined = await client.request("chat.join", { room: "lobby" });
 *
 * A client comes back by itself when its connection is lost, and asks for the session that it had. While it is away,
 * requests wait within their time-outs. When it has its session back (`recovered`) all is as if nothing had happened: pushes
 * come in order, each once, and requests without an answer are repeated under their ids, which the gateway does not run twice.
 * When a new session began, those requests reject with SessionLost and the `session` event says `recovered: false`: set up
 * again what you had (rejoin rooms, reload lists). All times are in seconds. Types: skyloom.d.ts; errors:
 * skyloom/errors.js.
 */

import { ConnectionLost, HelloRefused, MessageTooLarge, NotConnected, RequestError, RequestTimeout, SessionLost } from "./skyloom/errors.js";
import { PushStream, deferred } from "./skyloom/pushes.js";

export * from "./skyloom/errors.js";

const SUBPROTOCOL = "skyloom.v1.json";
const CONNECT_TIMEOUT_SECONDS = 10;
const REQUEST_TIMEOUT_SECONDS = 10;
const WELCOME_TIMEOUT_SECONDS = 10;
const HEARTBEAT_SECONDS = 20; // until the welcome names the gateway's own
const PONG_SECONDS = 10; // how long the gateway may take to say anything once it was pinged
const ACK_PUSHES = 32; // pushes after which they are acknowledged at once
const ACK_SECONDS = 1; // how long a push waits to be acknowledged with others
const FIRST_DELAY_SECONDS = 0.5;
const DELAY_SECONDS_MAX = 20;
const GIVE_UP_SECONDS = 300;
const WAITING_REQUESTS_MAX = 256;
const STABLE_SECONDS = 10; // a connection that lived this long starts the back-off anew
const PUSH_BUFFER_MAX = 1024;
const REQUEST_ID_MAX = 2 ** 32 - 1;
/**
 * Close codes after which coming back cannot help: what this client sends is at fault (1007, 1009, 4400), it is not allowed
 * (4401, 4403), or a newer connection took its session over (4409).
 */
const FINAL_CLOSE_CODES = new Set([1007, 1009, 4400, 4401, 4403, 4409]);

/**
 * @typedef {object} Options
 * @property {object | (() => object | Promise<object>)} auth  the hello's, such as {scheme: "guest", name: "ada"}, or a
 *   function that gives it anew for each connection
 * @property {boolean} [reconnect]       come back after a loss (default true)
 * @property {number} [firstDelay]       longest delay before the first attempt to come back; each further one doubles it (0.5)
 * @property {number} [maxDelay]         the longest delay of all (20)
 * @property {number} [giveUpAfter]      how long after a loss the last attempt may begin; Infinity for never (300)
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
 *  - "status"  detail {status, reason, closeCode, retryIn}; retryIn in seconds, null while an attempt is under way
 *  - "session" detail {user, session, recovered, first}: at each welcome; with recovered false a new session begins
 *  - "drain"   detail {reason, reconnectIn}: the gateway is about to close
 *  - "error"   detail RequestError: about the session or a notify, not about a request
 */
export class Client extends EventTarget {
  /** "connecting" until the first welcome, "connected", "suspended" while it tries to come back, "closed" for good. */
  status = "connecting";
  user = null;
  session = null;
  /** @type {{frame_bytes?: number, messages_per_second?: number}} */ limits = {};
  /** Answers that came after their request had timed out. */
  lateAnswers = 0;

  #url; #options; #WebSocket; #socket = null; #timers = {}; #opened = null; #listeners = new Map(); #streams = new Map();
  // The session: its key, what was pushed and acknowledged, and its requests in the order in which they were made.
  #key = null; #seq = 0; #acked = 0; #lastId = 0; #unanswered = new Set(); #sent = new Map();
  // The connection, and the way back to one.
  #heartbeat = HEARTBEAT_SECONDS; #drainDelay = null; #refusal = null; #attempts = 0; #openedAt = 0; #lostAt = null;
  #online = () => this.retry();
  #leaving = (event) => event.persisted || this.close(); // a page that is gone for good does not come back to its session

  /** @param {string | Options} [url] @param {Options} [options] */
  constructor(url, options) {
    super();
    if (typeof url === "object" && url !== null) [url, options] = [undefined, url];
    if (!options?.auth) throw new TypeError('options.auth is missing; pass for example {scheme: "guest", name: "ada"}');
    this.#options = {
      reconnect: true, firstDelay: FIRST_DELAY_SECONDS, maxDelay: DELAY_SECONDS_MAX, giveUpAfter: GIVE_UP_SECONDS,
      timeout: REQUEST_TIMEOUT_SECONDS, connectTimeout: CONNECT_TIMEOUT_SECONDS, ...options,
    };
    this.#url = url ?? pageUrl();
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (!this.#WebSocket) throw new TypeError("there is no global WebSocket here; pass one as options.WebSocket");
  }

  /** Start connecting; resolves at the first welcome. `connect` does this for you. @returns {Promise<void>} */
  open() {
    if (this.#opened) return this.#opened.promise;
    this.#opened = deferred();
    const seconds = this.#options.connectTimeout;
    if (Number.isFinite(seconds)) {
      this.#timer("first", seconds, () => this.#end(new ConnectionLost(`no welcome within ${seconds} s`, { sent: false })));
    }
    globalThis.addEventListener?.("online", this.#online);
    globalThis.addEventListener?.("pagehide", this.#leaving);
    try {
      this.#dial();
    } catch (error) {
      this.#end(new ConnectionLost(`cannot connect to ${this.#url}: ${error.message}`, { sent: false })); // a bad address
    }
    return this.#opened.promise;
  }

  /**
   * Send a request, or keep it until there is a connection. Rejects with RequestError, RequestTimeout, SessionLost,
   * ConnectionLost, MessageTooLarge, or NotConnected when the client is closed or too many requests wait.
   * @param {string} route @param {object} [body] @param {{timeout?: number}} [options] timeout in seconds
   * @returns {Promise<any>}
   */
  request(route, body = {}, { timeout = this.#options.timeout } = {}) {
    return new Promise((resolve, reject) => {
      if (this.status === "closed") throw new NotConnected("the client is closed");
      if (this.status !== "connected" && this.#waiting() >= WAITING_REQUESTS_MAX) {
        throw new NotConnected(`${WAITING_REQUESTS_MAX} requests wait for the connection already`);
      }
      const text = `"route":${JSON.stringify(route)},"body":${JSON.stringify(body)}}`;
      this.#checkSize(route, `{"type":"request","id":${REQUEST_ID_MAX},${text}`);
      const request = { id: 0, route, text, socket: null, resolve, reject, timer: 0 };
      request.timer = setTimeout(() => {
        this.#forget(request);
        reject(new RequestTimeout(route, timeout, request.id > 0));
      }, timeout * 1000);
      this.#unanswered.add(request);
      if (this.status === "connected") this.#transmit(request);
    });
  }

  /** Send a message that has no answer and may be lost. Throws NotConnected when not connected, or MessageTooLarge. */
  notify(route, body = {}) {
    if (this.status !== "connected") throw new NotConnected(`the client is ${this.status}`);
    const text = JSON.stringify({ type: "notify", route, body });
    this.#checkSize(route, text);
    this.#socket.send(text);
  }

  /**
   * Call `fn(body, push)` for each push of `route`. Returns a function that ends it.
   * @param {string} route @param {(body: any, push: {seq: number, route: string, body: any}) => void} fn @returns {() => void}
   */
  on(route, fn) { return addTo(this.#listeners, route, fn); }

  /**
   * The pushes of `route` from now on: `for await (const {body} of client.pushes("chat.message"))`.
   * It ends when the client is closed. Two errors stand in the place of a gap, and `next()` goes on behind it: SessionLost
   * when a new session began, PushOverflow when more than `bufferMax` pushes waited.
   */
  pushes(route, { bufferMax = PUSH_BUFFER_MAX } = {}) {
    const stream = new PushStream(route, bufferMax, () => leave());
    const leave = addTo(this.#streams, route, stream);
    if (this.status === "closed") stream.finish();
    return stream;
  }

  /** While waiting to try again: try now. */
  retry() {
    if ((this.status === "connecting" || this.status === "suspended") && !this.#socket && this.#opened) this.#dial();
  }

  /** End the session, for good. Waiting requests reject with ConnectionLost, streams end. */
  close() { this.#end(new ConnectionLost("closed by this client", { closeCode: 1000 }), 1000); }

  #dial() {
    clearTimeout(this.#timers.retry);
    this.#refusal = this.#drainDelay = null;
    this.#become(this.#away());
    const socket = (this.#socket = new this.#WebSocket(this.#url, SUBPROTOCOL));
    const current = (fn) => (event) => this.#socket === socket && fn(event);
    socket.onopen = current(() => this.#hello(current));
    socket.onmessage = current((event) => this.#received(event.data));
    socket.onerror = () => {}; // a close event follows, which says more
    socket.onclose = current((event) => this.#dropped(event.code, event.reason));
    this.#timer("welcome", WELCOME_TIMEOUT_SECONDS, () => this.#dropped(1006, "no welcome in time"));
  }

  #hello(current) {
    const { auth } = this.#options;
    const say = (auth) => {
      const resume = this.#key === null ? {} : { resume: { session: this.session, key: this.#key, seq: this.#seq } };
      this.#socket.send(JSON.stringify({ type: "hello", auth, client: { name: "skyloom.js" }, ...resume }));
    };
    if (typeof auth !== "function") return say(auth);
    const failed = (error) => this.#dropped(1006, `there is no auth for the hello: ${error.message}`);
    Promise.resolve().then(auth).then(current(say), current(failed));
  }

  #received(data) {
    this.#listen();
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return this.#dropped(1007, "the gateway sent a frame that is not JSON");
    }
    if (frame.type === "push") this.#pushed(frame);
    else if (frame.type === "response") this.#take(frame.id)?.resolve(frame.body);
    else if (frame.type === "error" && frame.id) {
      const waiting = this.#take(frame.id);
      waiting?.reject(new RequestError(frame.error ?? {}, waiting.route));
    } else if (frame.type === "error") {
      this.#refusal = frame.error ?? {};
      if (this.status === "connected") this.#emit("error", new RequestError(this.#refusal));
    } else if (frame.type === "drain") {
      this.#drainDelay = Math.max(0, Number(frame.reconnect_in) || 0);
      this.#emit("drain", { reason: frame.reason ?? "", reconnectIn: this.#drainDelay });
    } else if (frame.type === "ping") this.#socket.send('{"type":"pong"}');
    else if (frame.type === "welcome") this.#greeted(frame);
  }

  #greeted(welcome) {
    const first = this.#key === null;
    const recovered = welcome.recovered === true && !first;
    for (const name of ["welcome", "first"]) clearTimeout(this.#timers[name]);
    this.#openedAt = performance.now();
    this.#lostAt = null;
    [this.user, this.session, this.#key, this.limits] = [welcome.user, welcome.session, welcome.key, welcome.limits ?? {}];
    this.#heartbeat = welcome.heartbeat > 0 ? welcome.heartbeat : HEARTBEAT_SECONDS;
    this.#listen();
    if (recovered) this.#acked = this.#seq; // the hello told which pushes are here
    else this.#startOver(first);
    this.status = "connected";
    for (const request of [...this.#unanswered]) this.#transmit(request); // before what the events below bring
    this.#become("connected");
    this.#opened.resolve();
    this.#emit("session", { user: this.user, session: this.session, recovered, first });
  }

  #startOver(first) {
    this.#seq = this.#acked = this.#lastId = 0;
    if (first) return;
    for (const request of [...this.#unanswered]) {
      this.#forget(request);
      request.reject(new SessionLost(request.id > 0));
    }
    for (const streams of this.#streams.values()) for (const stream of streams) stream.interrupt();
  }

  #pushed(push) {
    if (push.seq <= this.#seq) return;
    if (push.seq !== this.#seq + 1) return this.#end(new ConnectionLost(`push ${push.seq} came after push ${this.#seq}`));
    this.#seq = push.seq;
    if (this.#seq - this.#acked >= ACK_PUSHES) this.#ack();
    else if (this.#seq === this.#acked + 1) this.#timer("ack", ACK_SECONDS, () => this.#ack());
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

  #ack() {
    clearTimeout(this.#timers.ack);
    if (this.status !== "connected" || this.#acked === this.#seq) return;
    this.#acked = this.#seq;
    this.#socket.send(`{"type":"ack","seq":${this.#seq}}`);
  }

  /** Any frame is life. After one silent heartbeat ping, and when that is not answered give the connection up. */
  #listen() {
    this.#timer("silence", this.#heartbeat, () => {
      if (this.status !== "connected") return;
      this.#socket.send('{"type":"ping"}');
      this.#timer("silence", PONG_SECONDS, () => this.#dropped(1006, "the gateway fell silent"));
    });
  }

  /** The connection is gone: try again, or end. */
  #dropped(closeCode, reason) {
    const wasConnected = this.status === "connected";
    this.#release();
    const why = this.#refusal?.message || reason || (wasConnected ? "the connection was lost" : "no answer");
    if (FINAL_CLOSE_CODES.has(closeCode) || !this.#options.reconnect) {
      const lost = new ConnectionLost(why, { closeCode });
      return this.#end(wasConnected ? lost : new HelloRefused(this.#refusal ?? { message: why }, closeCode));
    }
    const now = performance.now();
    if (wasConnected && now - this.#openedAt > STABLE_SECONDS * 1000) this.#attempts = 0;
    const ceiling = Math.min(this.#options.maxDelay, this.#options.firstDelay * 2 ** this.#attempts);
    this.#attempts += 1;
    // Between half and all of the ceiling: clients that were dropped together do not return together. A drain's delay is
    // jittered by the gateway already.
    const delay = this.#drainDelay ?? ceiling * (0.5 + Math.random() / 2);
    this.#lostAt ??= now;
    if (this.session !== null && now + delay * 1000 > this.#lostAt + this.#options.giveUpAfter * 1000) {
      return this.#end(new ConnectionLost(`gave up coming back: ${why}`, { closeCode }));
    }
    this.#become(this.#away(), { reason: why, closeCode, retryIn: delay });
    this.#timer("retry", delay, () => this.#dial());
  }

  #end(error, socketCode) {
    if (this.status === "closed") return;
    this.#release(socketCode);
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    globalThis.removeEventListener?.("online", this.#online);
    globalThis.removeEventListener?.("pagehide", this.#leaving);
    this.#become("closed", { reason: error.message, closeCode: error.closeCode });
    for (const request of [...this.#unanswered]) {
      this.#forget(request);
      request.reject(new ConnectionLost(error.message, { closeCode: error.closeCode, sent: request.id > 0 }));
    }
    this.#opened?.reject(error);
    for (const streams of this.#streams.values()) for (const stream of [...streams]) stream.finish();
    this.#streams.clear();
  }

  #release(code) {
    const socket = this.#socket;
    this.#socket = null; // its late events are ignored from here on
    for (const name of ["welcome", "silence", "ack"]) clearTimeout(this.#timers[name]);
    // Only the code 1000 ends the session: without one the gateway waits for the client.
    if (socket && socket.readyState < 2) socket.close(...(code ? [code] : []));
  }

  /** Send a request on this connection, once. It gets its id when it is first sent, so that ids have no gaps. */
  #transmit(request) {
    if (request.socket === this.#socket) return;
    request.id ||= this.#nextId();
    request.socket = this.#socket;
    this.#sent.set(request.id, request);
    this.#socket.send(`{"type":"request","id":${request.id},${request.text}`);
  }

  #take(id) {
    const request = this.#sent.get(id);
    if (request) this.#forget(request);
    else this.lateAnswers += 1;
    return request;
  }

  #forget(request) {
    clearTimeout(request.timer);
    this.#unanswered.delete(request);
    this.#sent.delete(request.id);
  }

  /** How many requests were never sent. */
  #waiting() {
    return this.#unanswered.size - this.#sent.size;
  }

  #nextId() {
    do this.#lastId = (this.#lastId % REQUEST_ID_MAX) + 1; while (this.#sent.has(this.#lastId));
    return this.#lastId;
  }

  #checkSize(route, text) {
    const limit = this.limits.frame_bytes ?? Infinity;
    if (text.length * 3 <= limit) return; // no character takes more bytes than that
    const size = new TextEncoder().encode(text).length;
    if (size > limit) throw new MessageTooLarge(route, size, limit);
  }

  #away() { return this.session === null ? "connecting" : "suspended"; }

  #become(status, { reason = "", closeCode = null, retryIn = null } = {}) {
    this.status = status;
    this.#emit("status", { status, reason, closeCode, retryIn });
  }

  #emit(name, detail) { this.dispatchEvent(new CustomEvent(name, { detail })); }

  #timer(name, seconds, fn) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(fn, seconds * 1000);
  }
}

function addTo(map, key, value) {
  if (!map.has(key)) map.set(key, new Set());
  map.get(key).add(value);
  return () => map.get(key)?.delete(value);
}

function pageUrl() {
  if (!globalThis.location) throw new TypeError('pass the gateway\'s address, such as "ws://127.0.0.1:8000/ws"');
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`;
}
