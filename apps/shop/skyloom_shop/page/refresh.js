/** Loading something again whenever there is reason to: one load at a time, and one more for all reasons that came meanwhile. */

const SOON_SECONDS = 0.15; // news come in bunches
const AGAIN_SECONDS = 3; // after a failure

export class Refresh {
  #load; #loaded; #timer = 0; #running = false; #wanted = false;

  /**
   * @param {() => Promise<void>} load
   * @param {(error: Error | null) => boolean} loaded  called after each load; true: try again after a while
   */
  constructor(load, loaded) {
    [this.#load, this.#loaded] = [load, loaded];
  }

  /** Load within moments. */
  soon() {
    this.#in(SOON_SECONDS);
  }

  async now() {
    clearTimeout(this.#timer);
    this.#wanted = true;
    if (this.#running) return;
    this.#running = true;
    let failure = null;
    while (this.#wanted) {
      this.#wanted = false;
      failure = null;
      try {
        await this.#load();
      } catch (error) {
        failure = error;
      }
    }
    this.#running = false;
    if (this.#loaded(failure)) this.#in(AGAIN_SECONDS);
  }

  cancel() {
    clearTimeout(this.#timer);
    this.#wanted = false;
  }

  #in(seconds) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.now(), seconds * 1000);
  }
}
