/** The shop page: clicks become the cart and orders, answers and pushes become what is drawn. */

import { RequestError, SkyloomError } from "/skyloom.js";
import { byId, counted } from "/skyloom/dom.js";
import { Entrance } from "/skyloom/entrance.js";
import { Cart } from "./cart.js";
import { drawCheckout, say, shortId } from "./checkout.js";
import { drawGoods } from "./goods.js";
import { amount } from "./money.js";
import { Ordering } from "./ordering.js";
import { drawOrders, isFinal, statusText } from "./orders.js";
import { Refresh } from "./refresh.js";

const ORDERS_SHOWN = 20;
const VIEWS = ["goods", "cart", "orders"];

/** All that is drawn; goods, balance and orders are null until they are loaded. */
const state = { goods: null, balance: null, orders: null, cart: null, trouble: "", refusal: "", tries: 0, status: "connecting", limit: ORDERS_SHOWN };

/** @type {import("/skyloom.js").Client | null} */
let client = null;
/** @type {Ordering | null} */
let ordering = null;
/** Stock that was pushed while the catalogue was on its way: the push may be the newer. @type {Map<string, number> | null} */
let early = null;

// What the shop says

const refreshGoods = new Refresh(async () => {
  early = new Map();
  const { items } = await client.request("shop.catalog");
  state.goods = new Map(items.map((item) => [item.sku, item]));
  for (const [sku, available] of early) setStock(sku, available);
  early = null;
}, loaded);

const refreshBalance = new Refresh(async () => {
  state.balance = (await client.request("shop.balance")).balance;
}, loaded);

const refreshOrders = new Refresh(async () => {
  state.orders = (await client.request("shop.orders", { limit: ORDERS_SHOWN })).orders;
}, loaded);

/** After a try to load: draw, and tell the goods' reader what is wrong. Returns whether to try again soon. */
function loaded(error) {
  if (error && !(error instanceof SkyloomError)) throw error;
  const never = error instanceof RequestError && error.kind === "unimplemented";
  state.trouble = !error ? "" : never ? "This gateway has no shop." : "The shop does not answer. Trying again…";
  if (client) draw();
  return Boolean(error) && !never && client?.status === "connected"; // else the next welcome loads all
}

function dialing(fresh) {
  client = fresh;
  client.on("shop.stock_changed", ({ items }) => {
    for (const { sku, available } of items) {
      early?.set(sku, available);
      setStock(sku, available);
    }
    draw();
  });
  client.on("shop.order_updated", ({ order_id, status }) => {
    const order = state.orders?.find((each) => each.order_id === order_id);
    if (order) order.status = status;
    if (isFinal(status)) {
      announce(`Order ${shortId(order_id)}: ${statusText(status)}`);
      if (order_id === state.cart?.orderId) ordering.nudge();
    }
    draw();
    refreshOrders.soon();
    refreshBalance.soon();
  });
}

function setStock(sku, available) {
  const item = state.goods?.get(sku);
  if (item) state.goods.set(sku, { ...item, available });
  else if (state.goods) refreshGoods.soon(); // new in the shop
}

function entered({ user, recovered, first }) {
  if (first) {
    state.cart = new Cart(user, cartChanged);
    ordering = new Ordering(client, state.cart, { changed: draw, bought, refused });
    showView();
  }
  if (!recovered) for (const refresh of [refreshGoods, refreshBalance, refreshOrders]) refresh.now();
  ordering.run();
  draw();
}

function left() {
  client = null;
  ordering?.close();
  state.cart?.close();
  ordering = null;
  for (const refresh of [refreshGoods, refreshBalance, refreshOrders]) refresh.cancel();
  Object.assign(state, { goods: null, balance: null, orders: null, cart: null, trouble: "", refusal: "" });
  for (const id of ["goods-list", "cart-lines", "orders-list"]) byId(id).replaceChildren();
  say("outcome", "");
  history.replaceState(null, "", location.pathname);
}

// The cart and its order

function cartChanged(elsewhere) {
  draw();
  if (elsewhere) ordering?.run(false); // it may have been ordered there
}

function take(sku, qty) {
  const before = state.cart.quantity(sku);
  state.cart.take(sku, qty);
  state.refusal = "";
  say("outcome", "");
  const now = state.cart.quantity(sku);
  if (now !== before) announce(`${state.goods?.get(sku)?.name ?? sku}: ${now || "none"} in the cart`);
  draw();
}

function submitOrder(event) {
  event.preventDefault();
  if (!state.cart?.count || client?.status !== "connected") return;
  state.refusal = "";
  say("outcome", "");
  state.cart.place(Date.now() / 1000);
  ordering.run();
}

function bought({ id }, { total, transaction_id }) {
  say("outcome", `Ordered: ${shortId(id)} for ${amount(total)}, payment ${shortId(String(transaction_id))}.`);
  state.refusal = "";
  changed();
}

function refused({ id }, error) {
  state.refusal = refusal(id, error);
  if (error?.code === "shop.out_of_stock" || error?.code === "shop.unknown_sku") refreshGoods.now();
  changed();
}

/** After an order: the pushes that tell of it may have been before its answer, or be lost. */
function changed() {
  draw();
  queueMicrotask(keepFocus);
  refreshBalance.now();
  refreshOrders.now();
}

/** The button that was clicked was disabled meanwhile, and may be gone. */
function keepFocus() {
  if (![document.body, byId("order")].includes(document.activeElement)) return;
  byId(byId("checkout").hidden ? "cart-title" : "order").focus({ preventScroll: true });
}

function refusal(id, error) {
  const nothing = "Nothing was bought.";
  switch (error?.code) {
    case undefined: return `Your last order did not reach the shop. ${nothing}`;
    case "shop.out_of_stock": return `${nothing} There was not enough in stock.`;
    case "shop.insufficient_funds": return `${nothing} Your balance is too low for this.`;
    case "shop.unknown_sku": return `${nothing} Not all of this is sold here any more.`;
    case "shop.order_mismatch": return `Order ${shortId(id)} was made already, with other goods, perhaps in another window. Look at your orders before you order this too.`;
    default: return `${nothing} ${error.message}`;
  }
}

// Drawing

let drawing = false;

/** Draw all at the next frame, once for however many changes. */
function draw() {
  if (drawing) return;
  drawing = true;
  queueMicrotask(() => {
    drawing = false;
    if (!state.cart) return;
    state.tries = ordering?.tries ?? 0;
    say("balance", state.balance === null ? "…" : amount(state.balance));
    drawGoods(state, take);
    drawCheckout(state, take);
    drawOrders(state);
    const { count } = state.cart;
    byId("tab-count").hidden = !count;
    byId("tab-count").textContent = String(count);
    byId("tab-count").setAttribute("aria-label", counted(count, "item"));
    document.title = `${count ? `(${count}) ` : ""}Skyloom shop`;
  });
}

function announce(text) {
  say("announcer", text);
}

/** On a narrow window one part is in view: the one that the address names, so that the back button works. */
function showView(moved = false) {
  const wanted = location.hash.slice(1);
  const view = VIEWS.includes(wanted) ? wanted : "goods";
  byId("shop").dataset.view = view;
  for (const tab of document.querySelectorAll(".tabs a")) {
    if (tab.dataset.view === view) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  if (moved) byId(`${view}-title`).focus({ preventScroll: true });
}

// Listening to the reader

byId("checkout").addEventListener("submit", submitOrder);
byId("empty-cart").addEventListener("click", () => {
  state.cart.empty();
  state.refusal = "";
  announce("The cart is empty");
  byId("cart-title").focus();
});
byId("find").addEventListener("input", draw);
addEventListener("hashchange", () => showView(true));

new Entrance("shop", { dialing, entered, left, status: (status) => { state.status = status; draw(); } }).begin();
