/** The orders, drawn, each with where it stands. */

import { byId, el, reconcile } from "/skyloom/dom.js";
import { shortId } from "./checkout.js";
import { money } from "./money.js";

const STEPS = 4; // received, goods set aside, paid, complete

/** What each status means to a buyer: [words, how many steps are done, or how it ended]. */
const STATUSES = {
  new: ["Received", 1],
  reserved: ["Goods set aside", 2],
  charging: ["Taking the payment", 2],
  paid: ["Paid", 3],
  confirmed: ["Complete", "good"],
  done: ["Complete", "good"],
  releasing: ["Being cancelled", "undoing"],
  refunding: ["Being refunded", "undoing"],
  failed: ["Not bought", "bad"],
};

/** A status in words. @param {string} status */
export function statusText(status) {
  return (STATUSES[status] ?? [status])[0];
}

/** Whether nothing more will happen to the order. @param {string} status */
export function isFinal(status) {
  return status === "done" || status === "confirmed" || status === "failed";
}

/**
 * @param {{orders: object[] | null, goods: Map<string, {name: string}> | null, limit: number}} state  newest first; null: not loaded
 */
export function drawOrders({ orders, goods, limit }) {
  const nameOf = (sku) => goods?.get(sku)?.name ?? sku;
  reconcile(byId("orders-list"), (orders ?? []).map((order) => {
    const items = order.items.map(({ sku, qty }) => [nameOf(sku), qty]);
    return {
      key: order.order_id,
      signature: JSON.stringify([order, items]),
      build: () => entry(order, items),
    };
  }));
  const none = byId("orders-none");
  none.hidden = orders?.length > 0 && orders.length < limit;
  none.textContent = !orders ? "Loading your orders…" : orders.length ? `These are the last ${limit}.` : "You have not ordered anything yet.";
}

function entry({ order_id, status, transaction_id, total }, items) {
  const [words, state] = STATUSES[status] ?? [status, 1];
  const working = typeof state === "number";
  return el("li", { class: "entry", data: { testid: "entry", order: order_id, status } },
    el("p", { class: "entry-head" },
      el("span", { class: `pill ${working ? "working" : state}`, data: { testid: "entry-status" } }, words),
      total != null && money(total, { testid: "entry-total" })),
    working && el("span", { class: "steps", "aria-hidden": "true" },
      ...Array.from({ length: STEPS }, (_, n) => el("span", { class: n < state ? "step reached" : "step" }))),
    el("ul", { class: "entry-items" }, ...items.map(([name, qty]) => el("li", { dir: "auto" }, `${qty} × ${name}`))),
    el("p", { class: "small soft ids" },
      el("span", { title: order_id }, `Order ${shortId(order_id)}`),
      transaction_id && el("span", { title: transaction_id }, `Payment ${shortId(String(transaction_id))}`),
      status === "failed" && el("span", {}, "Your balance is untouched")));
}
