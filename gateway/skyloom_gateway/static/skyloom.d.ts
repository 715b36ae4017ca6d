/** Types of skyloom.js, which says what everything does. Times are in seconds. */

/** A hello's `auth`, such as `{ scheme: "guest", name: "ada" }`. */
export type Auth = { scheme: string; [field: string]: unknown };

export type Status = "connecting" | "connected" | "suspended" | "closed";

export interface Options {
  auth: Auth | (() => Auth | Promise<Auth>);
  reconnect?: boolean;
  firstDelay?: number;
  maxDelay?: number;
  giveUpAfter?: number;
  timeout?: number;
  connectTimeout?: number;
  /** The class to use where there is no global one, such as that of `ws`. */
  WebSocket?: unknown;
}

export interface Limits {
  frame_bytes?: number;
  messages_per_second?: number;
}

export interface Push<Body = unknown> {
  seq: number;
  route: string;
  body: Body;
}

export interface StatusDetail {
  status: Status;
  reason: string;
  closeCode: number | null;
  retryIn: number | null;
}

export interface SessionDetail {
  user: string;
  session: string;
  recovered: boolean;
  first: boolean;
}

export interface DrainDetail {
  reason: string;
  reconnectIn: number;
}

export interface ClientEvents {
  status: CustomEvent<StatusDetail>;
  session: CustomEvent<SessionDetail>;
  drain: CustomEvent<DrainDetail>;
  error: CustomEvent<RequestError>;
}

export interface PushStream<Body = unknown> extends AsyncIterableIterator<Push<Body>> {}

export class Client extends EventTarget {
  constructor(options: Options);
  constructor(url: string, options: Options);
  readonly status: Status;
  readonly user: string | null;
  readonly session: string | null;
  readonly limits: Limits;
  readonly lateAnswers: number;
  open(): Promise<void>;
  request<Answer = unknown>(route: string, body?: object, options?: { timeout?: number }): Promise<Answer>;
  notify(route: string, body?: object): void;
  on<Body = unknown>(route: string, fn: (body: Body, push: Push<Body>) => void): () => void;
  pushes<Body = unknown>(route: string, options?: { bufferMax?: number }): PushStream<Body>;
  retry(): void;
  close(): void;
  addEventListener<Name extends keyof ClientEvents>(
    name: Name,
    listener: (event: ClientEvents[Name]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    name: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

export function connect(options: Options): Promise<Client>;
export function connect(url: string, options: Options): Promise<Client>;

export class SkyloomError extends Error {}

export class RequestError extends SkyloomError {
  readonly code: string;
  readonly kind: string;
  readonly retryable: boolean;
  readonly details: Record<string, unknown>;
  readonly route?: string;
}

export class RequestTimeout extends SkyloomError {
  readonly route: string;
  readonly sent: boolean;
}

export class ConnectionLost extends SkyloomError {
  readonly closeCode?: number;
  readonly sent: boolean;
}

export class SessionLost extends ConnectionLost {}

export class NotConnected extends ConnectionLost {}

export class HelloRefused extends SkyloomError {
  readonly code?: string;
  readonly closeCode?: number;
}

export class MessageTooLarge extends SkyloomError {
  readonly route: string;
  readonly sizeBytes: number;
  readonly limitBytes: number;
}

export class PushOverflow extends SkyloomError {
  readonly route: string;
  readonly missed: number;
}
