/**
 * What can go wrong for a client, as one tree.
 *
 *     SkyloomError
 *      ├── RequestError        the answer to a request is an error: code, kind, message, retryable, details
 *      ├── RequestTimeout      no answer in time; `sent` false means the request surely did not run
 *      ├── ConnectionLost      the connection ended for good; `sent` likewise
 *      │    ├── SessionLost    the client came back to a new session; `sent` likewise
 *      │    └── NotConnected   there is no connection now, and this does not wait for one
 *      ├── HelloRefused        the gateway does not let this client in: code, message, closeCode
 *      ├── MessageTooLarge     over the gateway's limit, and not sent
 *      └── PushOverflow        a consumer of pushes() was too slow: `missed` pushes are gone
 */

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
  constructor(route, seconds, sent = true) {
    super(`no answer to ${route} within ${seconds} s; ${sent ? "it may have run" : "it was not sent, for want of a connection"}`);
    Object.assign(this, { route, sent });
  }
}

export class ConnectionLost extends SkyloomError {
  constructor(reason, { closeCode, sent = true } = {}) {
    super(reason);
    Object.assign(this, { closeCode, sent });
  }
}

export class SessionLost extends ConnectionLost {
  constructor(sent = true) { super("the gateway began a new session", { sent }); }
}

export class NotConnected extends ConnectionLost {
  constructor(reason) { super(reason, { sent: false }); }
}

export class HelloRefused extends SkyloomError {
  constructor(error, closeCode) {
    super(error?.message || `the gateway closed the connection (${closeCode})`);
    Object.assign(this, { code: error?.code, closeCode });
  }
}

export class MessageTooLarge extends SkyloomError {
  constructor(route, sizeBytes, limitBytes) {
    super(`the message to ${route} takes ${sizeBytes} bytes, over the gateway's ${limitBytes}; send it in parts`);
    Object.assign(this, { route, sizeBytes, limitBytes });
  }
}

export class PushOverflow extends SkyloomError {
  constructor(route, missed) {
    super(`${missed} pushes of ${route} were dropped: the consumer is too slow`);
    Object.assign(this, { route, missed });
  }
}
