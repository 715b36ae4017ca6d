/** The cart, drawn: its lines, what is wrong with them, the sum, and how the order stands. */

import { byId, el, reconcile } from "/skyloom/dom.js";
import { stepper } from "./goods.js";
import { amount, money } from "./money.js";

/**
 * @param {object} state  as drawGoods', and
 * @param {string} state.refusal  why the last order was not made
 * @param {number} state.tries    how often the order was sent that waits for an answer
 * @param {string} state.status   of the connection
 * @param {(sku: string, qty: number) => void} take
 */
export function drawCheckout(state, take) {
  const { goods, cart, balance, refusal, tries, status } = state;
  const locked = cart.placedAt !== null;
  const lines = cart.items.map(({ sku, qty }) => ({ item: goods?.get(sku) ?? { sku, name: sku, price: null, available: 0 }, qty }));
  reconcile(byId("cart-lines"), lines.map(({ item, qty }) => {
    const note = goods ? noteOn(item, qty, balance) : "";
    return { key: item.sku, signature: JSON.stringify([item, qty, locked, note]), build: () => line(item, qty, locked, note, take) };
  }));
  byId("cart-none").hidden = lines.length > 0;
  byId("checkout").hidden = !lines.length;
  byId("empty-cart").hidden = !lines.length || locked;

  const known = goods && lines.every(({ item }) => item.price !== null);
  const total = lines.reduce((sum, { item, qty }) => sum + (item.price ?? 0) * qty, 0);
  byId("total").textContent = known ? amount(total) : "…";
  const short = known && balance !== null && total > balance;
  byId("after-label").textContent = short ? "Missing" : "Balance afterwards";
  byId("after").textContent = known && balance !== null ? amount(short ? total - balance : balance - total) : "…";
  byId("after").parentElement.classList.toggle("warn", Boolean(short) && !locked);
  byId("after").parentElement.hidden = locked;

  say("checkout-error", locked ? "" : refusal);
  const order = byId("order");
  order.disabled = locked || status !== "connected" || !goods;
  order.textContent = locked ? "Ordering…" : status === "connected" ? "Place order" : "Waiting for the connection";
  say("progress", locked ? progress(cart.orderId, tries, status) : "");
}

function progress(orderId, tries, status) {
  const again = `It keeps its number ${shortId(orderId)}, so it is ordered once, however often it is sent.`;
  if (status !== "connected") return `Your order is sent as soon as the connection is back. ${again}`;
  return tries > 1 ? `No answer yet; asking again. ${again}` : "";
}

/** What is wrong with a line, in words. */
function noteOn({ price, available }, qty, balance) {
  if (price === null) return "No longer sold here";
  if (!available) return "Sold out";
  if (qty > available) return `Only ${available} left`;
  if (balance !== null && price > balance) return "Above your balance";
  return "";
}

function line(item, qty, locked, note, take) {
  const { sku, name, price, available } = item;
  return el("li", { class: "line", data: { testid: "line", sku } },
    el("span", { class: "line-name", dir: "auto", title: name }, name),
    price === null ? el("span", { class: "soft" }, "–") : money(price * qty, { testid: "line-total" }),
    el("span", { class: "line-note small warn", data: { testid: "line-note" } }, note),
    el("span", { class: "line-tools" },
      note && available > 0 && qty > available && !locked && el("button", {
        type: "button", class: "link small", data: { testid: "take-left" }, on: { click: () => take(sku, available) },
      }, `Take ${available}`),
      price === null || !available
        ? !locked && el("button", { type: "button", class: "link small", "aria-label": `Remove ${name}`, data: { testid: "remove" }, on: { click: () => take(sku, 0) } }, "Remove")
        : stepper(item, qty, locked, take)));
}

/** An order's id as people may compare it. @param {string} orderId */
export function shortId(orderId) {
  return orderId.length > 12 ? orderId.slice(0, 8) : orderId;
}

/** Set a live region only when it changes, so that it is not read out again. */
export function say(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}
