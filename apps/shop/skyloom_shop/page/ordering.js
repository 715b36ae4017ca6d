/**
 * From the click to the certain answer. An answer that does not come, or does not say what became of the order, is asked for
 * again with the same id, over lost connections and reloads; so the order is there once, however often it is sent.
 */

import { RequestError, SkyloomError } from "/skyloom.js";

const ANSWER_SECONDS = 10;
const AGAIN_SECONDS = [1, 2, 4, 8, 15]; // between one try and the next
const FOLLOW_SECONDS = 2; // the tab that was clicked goes first; another one takes over if it is gone
const STALE_SECONDS = 600; // an order begun this long ago is not sent before the shop was asked for it

/** Kinds of errors after which an order may still come about, whoever says so. */
const OPEN_KINDS = new Set(["unavailable", "deadline_exceeded", "internal"]);
/** Kinds of the gateway's own errors that surely kept the order from the shop. */
const REFUSED_KINDS = new Set(["invalid_argument", "unimplemented", "permission_denied", "unauthenticated"]);

/** Whether the error settles the order: it is not, and will not be, made. */
export function settles(error) {
  if (!(error instanceof RequestError) || error.retryable) return false;
  return error.code.startsWith("shop.") ? !OPEN_KINDS.has(error.kind) : REFUSED_KINDS.has(error.kind);
}

export class Ordering {
  #client; #cart; #hooks; #running = false; #wake = null; #over = false; #timer = 0;
  /** How often the current order was sent. */
  tries = 0;

  /**
   * @param {import("/skyloom.js").Client} client @param {import("./cart.js").Cart} cart
   * @param {object} hooks
   * @param {() => void} hooks.changed  `tries` has grown
   * @param {(order: {id: string, items: object[]}, answer: object) => void} hooks.bought
   * @param {(order: {id: string, items: object[]}, error: RequestError | null) => void} hooks.refused  null: never arrived
   */
  constructor(client, cart, hooks) {
    [this.#client, this.#cart, this.#hooks] = [client, cart, hooks];
    client.addEventListener("status", () => this.nudge());
  }

  /** End, leaving the order as it is. */
  close() {
    this.#over = true;
    clearTimeout(this.#timer);
    this.nudge();
  }

  /** Something happened that may bring an answer sooner: a connection, news of the order. */
  nudge() {
    this.#wake?.();
  }

  /** See the cart's order through, if it is ordered. @param {boolean} [mine]  this tab was clicked or loaded */
  async run(mine = true) {
    if (this.#running) return;
    this.#running = true;
    try {
      if (!mine) await this.#pause(FOLLOW_SECONDS);
      while (!this.#over && this.#cart.placedAt !== null) await this.#see(this.#cart.orderId);
    } finally {
      this.#running = false;
    }
  }

  async #see(id) {
    const order = { id, items: this.#cart.items, stale: Date.now() / 1000 - this.#cart.placedAt > STALE_SECONDS };
    // A tab that has asked hears the answer, also when another was first and the cart has moved on; not if it was reopened.
    const waits = () => !this.#over && (this.#cart.orderId === id ? this.#cart.placedAt !== null : this.tries > 0);
    let certain = false;
    for (this.tries = 0; !certain && waits(); ) {
      if (this.#client.status !== "connected") {
        await this.#pause(AGAIN_SECONDS.at(-1));
        continue;
      }
      this.tries += 1;
      this.#hooks.changed();
      certain = await this.#ask(order);
      if (!certain && waits()) await this.#pause(AGAIN_SECONDS[Math.min(this.tries, AGAIN_SECONDS.length) - 1]);
    }
    this.tries = 0;
  }

  /** Send it once. Returns whether the answer is certain; then the cart no longer waits for one. */
  async #ask(order) {
    try {
      if (order.stale && !(await this.#known(order.id))) {
        this.#cart.reopen(order.id);
        this.#hooks.refused(order, null);
        return true;
      }
      order.stale = false;
      const answer = await this.#request("shop.place_order", { order_id: order.id, items: order.items });
      this.#cart.settle(order.id, true);
      this.#hooks.bought(order, answer);
      return true;
    } catch (error) {
      if (!(error instanceof SkyloomError)) throw error;
      if (settles(error)) {
        this.#cart.settle(order.id, false);
        this.#hooks.refused(order, error);
        return true;
      }
      console.info("shop: no certain answer to order", order.id, "yet:", error.message);
      return false;
    }
  }

  async #known(orderId) {
    try {
      await this.#request("shop.order", { order_id: orderId });
      return true;
    } catch (error) {
      if (error.code === "shop.order_not_found") return false;
      throw error;
    }
  }

  #request(route, body) {
    return this.#client.request(route, body, { timeout: ANSWER_SECONDS });
  }

  #pause(seconds) {
    return new Promise((resolve) => {
      this.#wake = resolve;
      this.#timer = setTimeout(resolve, seconds * 1000);
    }).finally(() => clearTimeout(this.#timer));
  }
}
