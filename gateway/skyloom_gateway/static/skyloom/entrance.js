/** Coming in and going out: the form, the name that is remembered, and whether there is a connection. */

import { Client } from "/skyloom.js";
import { byId, el, hueOf, initials } from "./dom.js";
import { recall, record } from "./memory.js";

const NAME = "skyloom.name"; // of the browser, and, while signed in, of the tab: pages of one tab share it
const QUIET_SECONDS = 2; // a connection that is back sooner is not missed

/** Somebody of that name, who proves nothing; null without one. @param {string} name */
export function guest(name) {
  return name ? { scheme: "guest", name } : null;
}

/**
 * The page's elements are found by id: sign-in and its form, me-name, me-avatar, status, banner, retry, sign-out, and the
 * page itself, which is hidden until the first welcome.
 */
export class Entrance {
  /** @type {Client | null} */
  client = null;
  #page; #hooks; #countdown = 0; #alarm = 0; #title = document.title;
  /** The banner: what is told, and what is only shown, as it changes every second. */
  #told = el("span"); #shown = el("span", { "aria-hidden": "true" });

  /**
   * @param {string} page  id of the element to show once signed in
   * @param {object} hooks
   * @param {(client: Client) => void} hooks.dialing     there is a new client: listen to it
   * @param {(session: {user: string, recovered: boolean, first: boolean}) => void} hooks.entered  at each welcome
   * @param {() => void} hooks.left                      signed out
   * @param {(status: string) => void} [hooks.status]    the client's
   * @param {(name: string) => object | null} [hooks.auth]  the hello's auth; null: a name is missing; throws Error
   * @param {typeof WebSocket} [hooks.WebSocket]         in place of the browser's
   */
  constructor(page, hooks) {
    this.#page = byId(page);
    this.#hooks = hooks;
    byId("banner-text").append(this.#told, " ", this.#shown);
    byId("sign-in-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#signIn(byId("name").value.trim());
    });
    byId("sign-out").addEventListener("click", () => this.#signOut());
    byId("retry").addEventListener("click", () => (this.client?.status === "closed" ? this.#signOut() : this.client?.retry()));
  }

  /** Begin: at once when the tab knows its name, else with the form. */
  begin() {
    const known = recall(NAME, "tab");
    byId("name").value ||= known ?? recall(NAME) ?? ""; // a fast reader has typed one already
    byId("sign-in-button").disabled = false;
    if (known) this.#signIn(known);
    else byId("name").focus();
  }

  #signIn(name) {
    let auth;
    try {
      auth = (this.#hooks.auth ?? guest)(name);
    } catch (error) {
      byId("sign-in-error").textContent = error.message;
      return;
    }
    byId("sign-in-error").textContent = auth ? "" : "Type a name first.";
    if (!auth) return;
    this.#busy(true);
    const client = new Client({ auth, connectTimeout: Infinity, giveUpAfter: Infinity, WebSocket: this.#hooks.WebSocket });
    this.client = client;
    client.addEventListener("status", ({ detail }) => this.#showStatus(detail));
    client.addEventListener("session", ({ detail }) => {
      if (detail.first) this.#welcome(auth.scheme === "guest" ? name : null, detail.user);
      this.#hooks.entered(detail);
    });
    client.addEventListener("error", ({ detail }) => console.warn("skyloom:", detail.code, detail.message));
    this.#hooks.dialing(client);
    client.open().catch((error) => {
      if (this.client !== client) return; // signed out meanwhile
      record(NAME, null, "tab");
      this.#showForm(name);
      byId("sign-in-error").textContent = error.message;
    });
  }

  #welcome(name, user) {
    record(NAME, name, "tab"); // what proves who one is stays out of the browser's memory
    if (name) record(NAME, name);
    byId("me-name").textContent = user;
    byId("me-avatar").textContent = initials(user);
    byId("me-avatar").className = `avatar hue-${hueOf(user)}`;
    byId("sign-in").hidden = true;
    this.#page.hidden = false;
    this.#busy(false);
  }

  #signOut() {
    const client = this.client;
    this.client = null;
    client?.close();
    record(NAME, null, "tab");
    this.#hooks.left();
    this.#showForm(recall(NAME) ?? "");
  }

  #showForm(name) {
    this.#page.hidden = true;
    byId("sign-in").hidden = false;
    this.#busy(false);
    document.title = this.#title;
    byId("name").value = name;
    byId("name").focus();
  }

  /** The form while it waits for the gateway. */
  #busy(on) {
    byId("sign-in-button").disabled = on;
    byId("sign-in-button").textContent = on ? "Connecting…" : "Enter";
    byId("name").readOnly = on;
    byId("sign-in-note").textContent = "You join as a guest; no password is needed.";
  }

  /** How the connection is doing: `detail` of the client's status event. */
  #showStatus({ status, reason, closeCode, retryIn }) {
    clearInterval(this.#countdown);
    const label = byId("status");
    label.dataset.status = status;
    this.#showBanner(status);
    byId("retry").hidden = status !== "closed" && retryIn === null;
    byId("retry").textContent = status === "closed" ? "Sign in again" : "Try now";
    if (status === "connected") label.textContent = "Connected";
    else if (status === "closed") {
      label.textContent = "Signed out";
      this.#tell(closeCode === 4409 ? "You are connected elsewhere with this session." : `Signed out: ${reason}`);
    } else {
      const until = retryIn === null ? 0 : performance.now() + retryIn * 1000;
      const tell = () => {
        const left = Math.max(0, Math.ceil((until - performance.now()) / 1000));
        label.textContent = left ? `Retrying in ${left} s` : "Connecting…";
        this.#tell("Connection lost.", left ? `Trying again in ${left} s.` : "Connecting…");
        if (!byId("sign-in").hidden && retryIn !== null) byId("sign-in-note").textContent = "The server does not answer. Trying again…";
      };
      tell();
      if (until) this.#countdown = setInterval(tell, 500);
    }
    this.#hooks.status?.(status);
  }

  #tell(told, shown = "") {
    if (this.#told.textContent !== told) this.#told.textContent = told;
    this.#shown.textContent = shown;
  }

  /** A short cut is not worth a word: nothing is lost, and requests wait. */
  #showBanner(status) {
    const banner = byId("banner");
    if (status === "suspended" && banner.hidden) {
      this.#alarm ||= setTimeout(() => { banner.hidden = false; }, QUIET_SECONDS * 1000);
      return;
    }
    clearTimeout(this.#alarm);
    this.#alarm = 0;
    banner.hidden = status === "connected";
  }
}
