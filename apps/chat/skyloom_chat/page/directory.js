/** All rooms that there are, as far as the page knows: nothing is pushed about rooms that the reader is not in. No DOM in here. */

import { SkyloomError } from "/skyloom.js";

const EVERY_SECONDS = 15; // how often they are asked for
const AGAIN_SECONDS = 2; // how soon after that a search may ask again

export class Directory {
  /** How many members each has. @type {Map<string, number>} */
  rooms = new Map();
  /** Whether there was an answer. */
  listed = false;
  #client; #changed; #askedAt = -Infinity; #timer = 0;

  /** @param {() => import("/skyloom.js").Client | null} client @param {() => void} changed */
  constructor(client, changed) {
    [this.#client, this.#changed] = [client, changed];
    setInterval(() => document.hidden || this.#try(), EVERY_SECONDS * 1000);
  }

  async refresh() {
    this.#askedAt = performance.now();
    clearTimeout(this.#timer);
    this.#timer = 0;
    const client = this.#client();
    if (!client) return; // signed out
    try {
      const answer = await client.request("chat.rooms");
      this.rooms = new Map(answer.rooms.map(({ room, members }) => [room, members]));
      this.listed = true;
    } catch (error) {
      if (!(error instanceof SkyloomError)) throw error; // else the next refresh makes up for it
    }
    this.#changed();
  }

  /** Somebody searches, who wants to find what was made since. */
  search() {
    this.#timer ||= setTimeout(() => {
      this.#timer = 0;
      this.#try();
    }, this.#askedAt + AGAIN_SECONDS * 1000 - performance.now());
  }

  clear() {
    this.rooms = new Map();
    this.listed = false;
  }

  #try() {
    if (this.#client()?.status === "connected") this.refresh();
  }
}
