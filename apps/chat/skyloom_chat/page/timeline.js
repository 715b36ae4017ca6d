/** The messages of the open room, drawn: grouped by who spoke, divided by day, and scrolled as a reader expects. */

import { avatar, byId, counted, el, reconcile } from "/skyloom/dom.js";

const GROUP_SECONDS = 300; // messages of one person this close together share one heading
const END_PIXELS = 48; // so near to the end counts as at the end
const START_PIXELS = 120; // so near to the start loads older messages

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const dated = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });

export class Timeline {
  #box = byId("timeline");
  #list = byId("messages");
  #jump = byId("jump");
  #room = null;
  #me = "";
  #actions;
  #unseen = 0;
  #atEnd = true; // kept, not measured when needed: a resized box has moved by then

  /** @param {{older: () => void, retry: (draft: object) => void, discard: (draft: object) => void}} actions */
  constructor(actions) {
    this.#actions = actions;
    this.#box.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    byId("load-older").addEventListener("click", () => actions.older());
    this.#jump.addEventListener("click", () => this.toEnd());
    new ResizeObserver(() => this.#atEnd && this.toEnd()).observe(this.#box);
  }

  /** Whether the reader sees the newest message. */
  get atEnd() {
    return this.#atEnd;
  }

  /** Open a room, at its end. */
  open(room, me) {
    this.#room = room;
    this.#me = me;
    this.#list.replaceChildren();
    this.draw();
    this.toEnd();
  }

  /** Redraw what changed. `added` messages came in below; the reader who looks elsewhere is not moved. */
  draw(added = 0) {
    const room = this.#room;
    if (!room) return;
    const wasAtEnd = this.#atEnd;
    // The browser's own anchoring differs between browsers, and gives up at the very top.
    const anchor = wasAtEnd ? null : this.#firstVisible();
    byId("load-older").hidden = room.complete || !room.messages.length;
    byId("load-older").disabled = room.loadingOlder;
    byId("load-older").textContent = room.loadingOlder ? "Loading…" : "Show earlier messages";
    const beginning = byId("beginning");
    beginning.hidden = !room.complete;
    beginning.replaceChildren(
      el("strong", {}, `This is the beginning of #${room.name}`),
      room.items.length || room.drafts.length ? "" : el("span", {}, "Nothing has been said yet. Say hello."),
    );
    reconcile(this.#list, this.#entries(room));
    if (wasAtEnd) this.toEnd();
    else if (anchor) this.#box.scrollTop += (this.#bottomOf(anchor.key) ?? anchor.bottom) - anchor.bottom;
    if (!wasAtEnd && added) this.#unseen += added;
    this.#drawJump();
  }

  toEnd() {
    this.#box.scrollTop = this.#box.scrollHeight;
    this.#atEnd = true;
    this.#unseen = 0;
    this.#drawJump();
  }

  #scrolled() {
    const box = this.#box;
    this.#atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < END_PIXELS;
    if (this.#atEnd) this.#unseen = 0;
    this.#drawJump();
    const room = this.#room;
    const scrolls = box.scrollHeight > box.clientHeight;
    if (room && scrolls && box.scrollTop < START_PIXELS && !room.complete && !room.loadingOlder) this.#actions.older();
  }

  /** The first message in view. Its lower edge is what stays: it may lose its heading to a message put before it. */
  #firstVisible() {
    const top = this.#box.getBoundingClientRect().top;
    for (const element of this.#list.querySelectorAll(".message")) {
      const { bottom } = element.getBoundingClientRect();
      if (bottom > top) return { key: element.dataset.key, bottom };
    }
    return null;
  }

  #bottomOf(key) {
    return [...this.#list.children].find((each) => each.dataset.key === key)?.getBoundingClientRect().bottom;
  }

  #drawJump() {
    this.#jump.hidden = this.#atEnd;
    this.#jump.textContent = this.#unseen ? counted(this.#unseen, "new message") : "To the newest";
  }

  #entries(room) {
    const entries = [];
    let day = "";
    let before = null;
    for (const item of [...room.items, ...room.drafts.map((draft) => ({ kind: "draft", user: this.#me, draft, time: draft.time }))]) {
      const today = new Date(item.time * 1000).toDateString();
      if (today !== day) {
        day = today;
        before = null;
        entries.push({ key: `day ${today}`, signature: dayName(item.time), build: () => divider(dayName(item.time), "day") });
      }
      if (item.kind === "message" && item.id === room.firstUnread) {
        before = null;
        entries.push({ key: "new", signature: "new", build: () => divider("New", "new") });
      }
      if (item.kind === "notice") {
        entries.push({ key: item.key, signature: "", build: () => notice(item) });
        before = null;
        continue;
      }
      const grouped = before !== null && before.user === item.user && item.time - before.time < GROUP_SECONDS;
      entries.push(item.kind === "message" ? this.#message(item, grouped) : this.#draft(item.draft, grouped));
      before = item;
    }
    return entries;
  }

  #message(message, grouped) {
    return {
      key: `m${message.id}`,
      signature: String(grouped),
      build: () => frame(message, grouped, message.user === this.#me, { messageId: message.id }),
    };
  }

  #draft(draft, grouped) {
    return {
      key: draft.key,
      signature: `${draft.state} ${grouped} ${draft.reason}`,
      build: () => {
        const element = frame({ user: this.#me, text: draft.text, time: draft.time }, grouped, true, { state: draft.state });
        if (draft.state === "failed") {
          element.append(
            el("p", { class: "failed" },
              el("span", {}, draft.reason),
              el("button", { type: "button", class: "link", data: { testid: "resend" }, on: { click: () => this.#actions.retry(draft) } }, "Try again"),
              el("button", { type: "button", class: "link", data: { testid: "discard" }, on: { click: () => this.#actions.discard(draft) } }, "Discard")),
          );
        }
        return element;
      },
    };
  }
}

function frame({ user, text, time }, grouped, mine, data) {
  const when = new Date(time * 1000);
  const stamp = el("time", { datetime: when.toISOString(), title: when.toLocaleString() }, clock.format(when));
  const names = ["message", grouped && "grouped", mine && "mine"].filter(Boolean).join(" ");
  return el("li", { class: names, data: { testid: "message", user, ...data } },
    grouped ? stamp : avatar(user),
    !grouped && el("p", { class: "byline" }, el("span", { class: "author", dir: "auto" }, user), mine && el("span", { class: "you" }, "you"), stamp),
    el("p", { class: "text", data: { testid: "message-text" }, dir: "auto" }, text),
  );
}

function notice({ user, verb, time }) {
  const when = new Date(time * 1000);
  return el("li", { class: "notice", data: { testid: "notice", user } },
    el("span", {}, el("bdi", {}, user), ` ${verb}`), el("time", { datetime: when.toISOString() }, clock.format(when)));
}

function divider(text, kind) {
  return el("li", { class: `divider ${kind}`, data: { testid: `divider-${kind}` } }, el("span", {}, text));
}

function dayName(time) {
  const day = new Date(time * 1000);
  const days = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(day).setHours(0, 0, 0, 0)) / 86_400_000);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  return (days < 180 ? weekday : dated).format(day);
}
