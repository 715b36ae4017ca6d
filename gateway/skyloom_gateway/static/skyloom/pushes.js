/** Pushes on their way to one consumer. */

import { PushOverflow, SessionLost, SkyloomError } from "./errors.js";

/** What client.pushes() gives: an async iterator, with errors in the places of gaps. */
export class PushStream {
  #route; #bufferMax; #leave; #waiting = []; #missed = 0; #done = false; #wake = null;

  constructor(route, bufferMax, leave) { [this.#route, this.#bufferMax, this.#leave] = [route, bufferMax, leave]; }

  [Symbol.asyncIterator]() { return this; }

  async next() {
    for (;;) {
      if (!this.#waiting.length) this.#closeGap();
      if (this.#waiting.length) {
        const value = this.#waiting.shift();
        if (value instanceof SkyloomError) throw value;
        return { done: false, value };
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

  interrupt() {
    this.#closeGap();
    if (!(this.#waiting.at(-1) instanceof SessionLost)) this.#waiting.push(new SessionLost());
    this.#rouse();
  }

  finish() {
    this.#done = true;
    this.#rouse();
  }

  #closeGap() {
    if (this.#missed) this.#waiting.push(new PushOverflow(this.#route, this.#missed));
    this.#missed = 0;
  }

  #rouse() {
    this.#wake?.resolve();
    this.#wake = null;
  }
}

/** A promise, and what settles it. */
export function deferred() {
  let resolve, reject;
  const promise = new Promise((a, b) => { resolve = a; reject = b; });
  promise.catch(() => {}); // whoever awaits it still sees the rejection; nobody need
  return { promise, resolve, reject };
}
