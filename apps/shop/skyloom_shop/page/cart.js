/**
 * What somebody is about to buy, and the id of the order that it becomes.
 *
 * The id is chosen with the first item and kept until the shop's answer to that order is certain, so that whatever is
 * repeated - a click, a tab, a reload, a lost connection - names the same order, which the shop runs once. The cart lies in the
 * browser's memory, where all tabs of a person find the same one; each change reads it anew.
 */

import { recall, record } from "/skyloom/memory.js";

export const QUANTITY_MAX = 99; // of one item, and
export const LINES_MAX = 50; // of different items in one order: the shop's own limits
const KEY = "skyloom.shop.cart.";
const ORDER_ID_BYTES = 12;

/** @typedef {{order: string, items: Map<string, number>, placedAt: number | null}} Content */

export class Cart {
  #key; #changed; #content; #heard;

  /** @param {string} user @param {(elsewhere: boolean) => void} changed  called after every change, by this tab or another */
  constructor(user, changed) {
    this.#key = KEY + user;
    this.#changed = changed;
    this.#content = this.#read();
    this.#heard = (event) => {
      if (event.key !== this.#key && event.key !== null) return;
      this.#content = this.#read();
      this.#changed(true);
    };
    addEventListener("storage", this.#heard);
  }

  close() {
    removeEventListener("storage", this.#heard);
  }

  /** The id that the order has or will have. */
  get orderId() {
    return this.#content.order;
  }

  /** [{sku, qty}] in the order in which they were put in. */
  get items() {
    return [...this.#content.items].map(([sku, qty]) => ({ sku, qty }));
  }

  get count() {
    return this.items.reduce((sum, { qty }) => sum + qty, 0);
  }

  /** Whether no other item can be added. */
  get full() {
    return this.#content.items.size >= LINES_MAX;
  }

  /** When it was ordered, in seconds, while the answer is not certain; then it cannot be changed. Else null. */
  get placedAt() {
    return this.#content.placedAt;
  }

  /** @param {string} sku */
  quantity(sku) {
    return this.#content.items.get(sku) ?? 0;
  }

  /** Take `qty` of `sku`; 0 puts it back. @param {string} sku @param {number} qty */
  take(sku, qty) {
    this.#change((content) => {
      if (content.placedAt !== null || (content.items.size >= LINES_MAX && !content.items.has(sku))) return;
      if (qty > 0) content.items.set(sku, Math.min(qty, QUANTITY_MAX));
      else content.items.delete(sku);
    });
  }

  empty() {
    this.#change((content) => {
      if (content.placedAt === null) Object.assign(content, fresh());
    });
  }

  /** Order what is in it: from here on it waits for the answer. @param {number} now  seconds */
  place(now) {
    this.#change((content) => { content.placedAt ??= now; });
  }

  /** The shop does not know the order: the cart is open again, and would be the same order. @param {string} orderId */
  reopen(orderId) {
    this.#change((content) => {
      if (content.order === orderId) content.placedAt = null;
    });
  }

  /**
   * The answer to `orderId` is certain. Bought goods leave the cart, others stay in it; what is ordered next is another order.
   * @param {string} orderId @param {boolean} bought
   */
  settle(orderId, bought) {
    this.#change((content) => {
      if (content.order !== orderId) return; // another tab was first
      Object.assign(content, fresh(), bought ? {} : { items: content.items });
    });
  }

  #change(fn) {
    const content = this.#read();
    fn(content);
    this.#content = content;
    record(this.#key, JSON.stringify({ ...content, items: [...content.items] }));
    this.#changed(false);
  }

  /** @returns {Content} */
  #read() {
    try {
      const { order, items, placedAt } = JSON.parse(recall(this.#key) ?? "null");
      const sound = items.filter(([sku, qty]) => typeof sku === "string" && Number.isInteger(qty) && qty > 0 && qty <= QUANTITY_MAX);
      if (/^[\w-]{1,64}$/.test(order)) {
        return { order, items: new Map(sound), placedAt: sound.length && Number.isFinite(placedAt) ? placedAt : null };
      }
    } catch {
      // there is none, or another program wrote there
    }
    return fresh();
  }
}

function fresh() {
  const bytes = crypto.getRandomValues(new Uint8Array(ORDER_ID_BYTES));
  const order = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return { order, items: new Map(), placedAt: null };
}
