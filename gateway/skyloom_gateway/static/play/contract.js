/** What a gateway says that it answers and pushes: its AsyncAPI 3 document, read for a form and a list. */

/**
 * @typedef {object} Operation
 * @property {string} route
 * @property {"request" | "notify" | "push"} kind
 * @property {string} app       the route's prefix
 * @property {string} about     a sentence or two
 * @property {any} schema       the JSON schema of the body; its references begin at the document
 * @property {{code: string, about: string}[]} errors  what a request may be answered with instead
 */

export class Contract {
  #document;

  constructor(document) {
    if (!/^3\./.test(document?.asyncapi)) throw new Error("the gateway's /asyncapi.json is not an AsyncAPI 3 document");
    this.#document = document;
  }

  /** @returns {Promise<Contract>} */
  static async load(url = "/asyncapi.json") {
    const response = await fetch(url, { cache: "no-cache" });
    if (!response.ok) throw new Error(`the gateway answers ${response.status} for ${url}`);
    return new Contract(await response.json());
  }

  /** Whether the other one says the same. @param {Contract} other */
  same(other) {
    return JSON.stringify(this.#document) === JSON.stringify(other.#document);
  }

  /** In the document's order. @returns {Operation[]} */
  get operations() {
    return Object.values(this.#document.operations ?? {}).flatMap((each) => {
      const operation = this.resolve(each);
      const channel = this.resolve(operation.channel);
      const route = channel?.address;
      if (!route) return []; // such as the gateway's own errors, which belong to no route
      const [message] = this.#messages(operation.messages, channel);
      const schema = this.#payload(message);
      return [{
        route,
        kind: operation.action === "send" ? "push" : operation.reply ? "request" : "notify",
        app: route.split(".")[0],
        about: first(operation.summary, operation.description, message?.summary, this.resolve(schema)?.description),
        schema,
        errors: this.#errors(operation.reply),
      }];
    });
  }

  /**
   * What a value that may be a reference stands for. @param {any} value
   */
  resolve(value) {
    for (let steps = 0; typeof value?.$ref === "string" && steps < 32; steps += 1) {
      const { $ref: reference, ...beside } = value;
      if (!reference.startsWith("#/")) return beside; // another document's
      const names = reference.slice(2).split("/").map((name) => decodeURIComponent(name).replaceAll("~1", "/").replaceAll("~0", "~"));
      const target = names.reduce((at, name) => (at && Object.hasOwn(at, name) ? at[name] : undefined), this.#document);
      value = target && typeof target === "object" && Object.keys(beside).length ? { ...target, ...beside } : target;
    }
    return value;
  }

  #messages(named, channel) {
    return (named ?? Object.values(channel.messages ?? {})).map((message) => this.resolve(message)).filter(Boolean);
  }

  #payload(message) {
    const payload = this.resolve(message?.payload);
    return payload?.schemaFormat ? payload.schema : (message?.payload ?? { type: "object" });
  }

  #errors(reply) {
    if (!reply) return [];
    const messages = this.#messages(this.resolve(reply).messages, this.resolve(this.resolve(reply).channel) ?? {});
    return messages.flatMap((message) => {
      const code = this.#code(message.payload);
      return code ? [{ code, about: first(message.summary, message.description) }] : [];
    });
  }

  /** The code that a payload fixes, when it is an error's. */
  #code(schema) {
    const { properties, allOf = [] } = this.resolve(schema) ?? {};
    return properties?.code?.const ?? allOf.map((part) => this.#code(part)).find(Boolean);
  }
}

function first(...texts) {
  return texts.find((text) => typeof text === "string" && text) ?? "";
}
