/** The frames of a connection, both ways, as they pass, in a list that stays bounded. */

import { byId, el } from "/skyloom/dom.js";

const KEPT_MAX = 500;
const LINE_CHARACTERS = 160;
const FRAME_CHARACTERS_MAX = 20_000; // of one frame opened up
const END_PIXELS = 48;

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" });

export class Frames {
  #list = byId("frames");
  #only = byId("only");
  #pings = byId("pings");

  constructor() {
    byId("clear").addEventListener("click", () => this.#list.replaceChildren());
    this.#only.addEventListener("input", () => this.#filter());
    this.#pings.addEventListener("change", () => this.#filter());
  }

  /** Show only frames with this text. */
  only(text) {
    this.#only.value = text;
    this.#filter();
  }

  /** A frame on its way. @param {"out" | "in"} way @param {string} data */
  add(way, data) {
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      frame = { type: "not JSON", data };
    }
    const { type, ...rest } = conceal(frame);
    const words = [way === "out" ? "sent" : "received", rest.route ?? "", rest.error?.code ?? ""].filter(Boolean).join(" ");
    const line = JSON.stringify(rest);
    const pretty = JSON.stringify({ type, ...rest }, null, 2);
    const more = el("details", {},
      el("summary", { "aria-label": `${type}, ${words}` },
        stamp(), el("span", { class: "way", title: way === "out" ? "sent" : "received" }, way === "out" ? "→" : "←"),
        el("b", { class: "kind" }, type), el("code", {}, line.length > LINE_CHARACTERS ? `${line.slice(0, LINE_CHARACTERS)}…` : line)));
    // Most frames are never opened.
    more.addEventListener("toggle", () => more.append(el("pre", { class: "code" }, pretty.length > FRAME_CHARACTERS_MAX ? `${pretty.slice(0, FRAME_CHARACTERS_MAX)}\n…` : pretty)), { once: true });
    const ping = type === "ping" || type === "pong" ? "ping" : "";
    this.#append(el("li", { class: `frame ${way}`, data: { testid: "frame", way, type, ping } }, more), `${type} ${line}`);
  }

  /** Something that is no frame. @param {string} text @param {"good" | "bad" | ""} [mood] */
  note(text, mood = "") {
    this.#append(el("li", { class: `frame note ${mood}`, data: { testid: "note" } }, stamp(), el("span", {}, text)), text);
  }

  /** Show the newest, for instance after the list was out of view, where it could not follow. */
  toEnd() {
    this.#list.scrollTop = this.#list.scrollHeight;
  }

  #append(item, words) {
    const list = this.#list;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < END_PIXELS;
    item.words = words.toLowerCase();
    item.hidden = this.#hides(item);
    list.append(item);
    while (list.childElementCount > KEPT_MAX) list.firstElementChild.remove();
    if (atEnd) list.scrollTop = list.scrollHeight;
  }

  #hides(item) {
    return (item.dataset.ping === "ping" && !this.#pings.checked) || !item.words.includes(this.#only.value.trim().toLowerCase());
  }

  #filter() {
    for (const item of this.#list.children) item.hidden = this.#hides(item);
    this.#list.scrollTop = this.#list.scrollHeight;
  }
}

function stamp() {
  const now = new Date();
  return el("time", { datetime: now.toISOString() }, clock.format(now));
}

/** What lets somebody in is not for the screen, which others may see. */
function conceal(frame) {
  const shown = { ...frame };
  if (shown.type === "welcome" && shown.key) shown.key = "•••";
  if (shown.type !== "hello") return shown;
  shown.auth = Object.fromEntries(Object.entries(shown.auth ?? {}).map(([name, value]) => [name, name === "scheme" || name === "name" ? value : "•••"]));
  if (shown.resume) shown.resume = { ...shown.resume, key: "•••" };
  return shown;
}
