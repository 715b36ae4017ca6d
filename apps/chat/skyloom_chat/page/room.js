/** What the page knows of one room: its members, its messages in order, what is unread. No DOM in here. */

export const MESSAGES_KEPT_MAX = 500; // older ones are dropped while the reader is at the end, and can be loaded again
export const PAGE_MESSAGES = 50; // asked for at once
const TYPING_SECONDS = 5;
const NOTICES_KEPT_MAX = 100;
const RETURN_SECONDS = 60; // how long others may take to come back after a restart; pages try again every 20 s at least

export class Room {
  /** @param {string} name */
  constructor(name) {
    this.name = name;
    /** @type {Set<string>} */ this.members = new Set();
    /** Members that a very full room's answer left out. */
    this.unlisted = 0;
    /** Grows whenever the members change. */
    this.membersVersion = 0;
    /** Messages {kind: "message", id, user, text, time} in the order of their ids, and notices {kind: "notice", ..} between. */
    this.items = [];
    /** The reader's own messages that have no answer yet: {key, text, state: "sending" | "waiting" | "failed", reason}. */
    this.drafts = [];
    this.unread = 0;
    /** The id of the first message that was unread when the room was opened, for the divider. */
    this.firstUnread = null;
    /** Whether the first message of all is here. */
    this.complete = false;
    this.joined = false;
    this.loadingOlder = false;
    /** What is typed and not sent. */
    this.text = "";
    this.#typing = new Map();
    this.#keys = 0;
  }

  #typing;
  #keys;
  /** Who was here before the reader's session was lost, and is not back yet. @type {Set<string>} */ #missing = new Set();
  #missingUntil = 0;

  get memberCount() {
    return this.members.size + this.unlisted;
  }

  get messages() {
    return this.items.filter((item) => item.kind === "message");
  }

  /** The answer to chat.join at `now`, at first, or after a reconnect, when it may overlap. Returns how many are news. */
  enter({ members, member_count: count = members.length, history, more }, me, now) {
    const again = this.joined;
    const before = new Set([...this.members, ...this.#missing]);
    const wereListed = !this.unlisted;
    this.joined = true;
    this.members = new Set(members);
    this.unlisted = count - members.length;
    this.membersVersion += 1;
    const known = new Set(this.messages.map((message) => message.id));
    const overlaps = history.some((message) => known.has(message.id));
    if (known.size && history.length && !overlaps) {
      // More was said meanwhile than a join brings: start over rather than show a gap.
      this.items = [];
      this.complete = false;
    }
    if (!known.size || !overlaps) this.complete = !more;
    const fresh = history.filter((message) => this.add(message));
    this.#reconcile(fresh, me);
    if (again) this.#comeBack(before, wereListed, now);
    return again ? fresh.filter((message) => message.user !== me).length : 0;
  }

  /** Insert a message by its id; false when it is here already. */
  add(message) {
    let at = this.items.length;
    for (let i = this.items.length - 1; i >= 0; i -= 1) {
      const item = this.items[i];
      if (item.kind !== "message") continue;
      if (item.id === message.id) return false;
      if (item.id < message.id) break;
      at = i;
    }
    this.items.splice(at, 0, { kind: "message", ...message });
    this.#typing.delete(message.user);
    return true;
  }

  /** Older messages, from chat.history. */
  prepend({ messages, more }) {
    this.items.unshift(...messages.map((message) => ({ kind: "message", ...message })));
    this.complete = !more;
  }

  /** Somebody came or went. Who only comes back after a restart is a member again, and no news. */
  moved(user, verb, time) {
    if (verb === "joined") this.members.add(user);
    else if (!this.members.delete(user) && this.unlisted) this.unlisted -= 1;
    this.membersVersion += 1;
    this.#typing.delete(user);
    if (!this.#missing.delete(user)) this.#notice(user, verb, time);
  }

  /** Those who did not come back in time have left; true when there are such. */
  giveUpMissing(now) {
    if (!this.#missing.size || now < this.#missingUntil) return false;
    for (const user of this.#missing) this.#notice(user, "left", now);
    this.#missing.clear();
    return true;
  }

  /** A new session: whoever was here `before` is expected back, and whoever else is here now is new. */
  #comeBack(before, wereListed, now) {
    this.#missing = new Set([...before].filter((user) => !this.members.has(user)));
    this.#missingUntil = now + RETURN_SECONDS;
    if (!wereListed) return; // the new ones among so many cannot be told
    for (const user of this.members) if (!before.has(user)) this.#notice(user, "joined", now);
  }

  #notice(user, verb, time) {
    this.#keys += 1;
    this.items.push({ kind: "notice", key: `n${this.#keys}`, user, verb, time });
    const notices = this.items.filter((item) => item.kind === "notice");
    if (notices.length > NOTICES_KEPT_MAX) this.items.splice(this.items.indexOf(notices[0]), 1);
  }

  draft(text) {
    this.#keys += 1;
    const draft = { key: `d${this.#keys}`, text, state: "sending", reason: "", time: Date.now() / 1000 };
    this.drafts.push(draft);
    return draft;
  }

  discard(draft) {
    this.drafts = this.drafts.filter((other) => other !== draft);
  }

  /** Drop the oldest; call it while the reader sees the end. */
  trim() {
    if (this.items.length > MESSAGES_KEPT_MAX) {
      this.items.splice(0, this.items.length - MESSAGES_KEPT_MAX);
      this.complete = false;
    }
  }

  get oldestId() {
    return this.items.find((item) => item.kind === "message")?.id ?? null;
  }

  typed(user, now) {
    this.#typing.set(user, now + TYPING_SECONDS);
  }

  /** Who is typing at `now`, in seconds. */
  typing(now) {
    return [...this.#typing].filter(([, until]) => until > now).map(([user]) => user);
  }

  /** A message whose answer was lost with the connection may be in the history: then it is no draft any more. */
  #reconcile(fresh, me) {
    for (const message of fresh) {
      if (message.user !== me) continue;
      const draft = this.drafts.find((one) => one.text === message.text && one.state === "failed" && one.unsure);
      if (draft) this.discard(draft);
    }
  }
}
