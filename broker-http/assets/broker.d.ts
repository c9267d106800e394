// Types of broker.js, the browser's client of Broker. Copy this file beside your sources, or read it: every call is here.

/** Where a publication stands: `offset@epoch`, as the server wrote it. */
export type Position = string;

export interface Options {
  /** Default: `ws` beside the module itself. `http:` and `ws:` addresses will do; a relative one belongs to the page. */
  url?: string | URL;
  /** A token that does not change. */
  token?: string;
  /**
   * Asked for a token on the first connect, ahead of its end, and after one was refused; nothing: connect as nobody. Where it fails it is asked
   * again with the next try; call `close()` to stop.
   */
  getToken?: () => string | null | undefined | Promise<string | null | undefined>;
  /** Asked for a ticket before every connect, where there is no token. */
  getTicket?: () => string | null | undefined | Promise<string | null | undefined>;
  /** Ceiling of the first wait; each further one has twice as much. Default: 500. */
  firstDelayMs?: number;
  /** Ceiling of all waits. Default: 20 000. */
  longestDelayMs?: number;
  /** Credentials, handshake and first answer together. Default: 10 000. */
  connectTimeoutMs?: number;
  /** For a command. Default: 10 000. */
  answerTimeoutMs?: number;
  /** Silence after which the server is pinged. Default: 20 000. */
  pingAfterMs?: number;
  /** How long it may stay silent then. Default: 8 000. */
  pongWithinMs?: number;
  /** The same where somebody has just come back to the page, or the network has. Default: 3 000. */
  wakeWithinMs?: number;
  /** Default: the global one. */
  WebSocket?: new (url: URL, protocols: string[]) => unknown;
}

/** The one event that says how it stands, and why. */
export interface State {
  readonly state: "connecting" | "connected" | "waiting" | "closed";
  /** Close code of the last connection; 0: none, or the client's own reason. */
  readonly code: number;
  readonly reason: string;
  /** Tries since a connection lasted for 5 s. */
  readonly attempt: number;
  /** In `waiting`: until the next try; `null`: when the browser is online again. */
  readonly retryInMs: number | null;
  /** What the server, or the application's `getToken`, said was wrong. */
  readonly error: BrokerError | null;
}

/** What was refused, and how to put it right. */
export declare class BrokerError extends Error {
  /** Number of the server's table of errors; 0: the client's own. */
  readonly code: number;
  /** Stable: those of the server, and `not_connected`, `disconnected`, `timeout`, `closed`, `no_credentials`. */
  readonly word: string;
  readonly hint?: string;
  /** Byte offset of the mistake in the frame that was sent. */
  readonly at?: number;
  readonly retryAfterMs?: number;
}

export interface Publication<T = any> {
  broker: "publication";
  topic: string;
  /** Where the topic keeps history. */
  position?: Position;
  /** Binary data is a `Uint8Array`. */
  data: T;
  key?: string;
  /** The key is gone; without `data` where the publisher gave none. */
  removed?: true;
  tags?: Record<string, string>;
  /** In ms since 1970. */
  time: number;
}
export interface Snapshot<T = any> { broker: "snapshot"; topic: string; position?: Position; data: T }
/**
 * Something is missing. `from` and `to` are the first and the last missing position, where they are known.
 *
 * `not_resumed` is the client's own word: after a break, where the topic has no history.
 */
export interface Gap {
  broker: "gap";
  topic: string;
  from?: Position;
  to?: Position;
  reason: "slow_consumer" | "epoch" | "trimmed" | "unreadable" | "not_resumed";
}
/** `snapshot`: one follows. */
export interface Subscribed { broker: "subscribed"; topic: string; position?: Position; recovered?: boolean; snapshot?: true; data?: any }
export interface Unsubscribed { broker: "unsubscribed"; topic: string; code: number; reason: string }
export interface Presence { broker: "join" | "leave"; topic: string; user: string; session: string }
export interface Identity { broker: "identity"; user: string; left: string[]; joined: string[] }

interface TopicEvents<T> {
  publication: Publication<T>;
  snapshot: Snapshot<T>;
  gap: Gap;
  subscribed: Subscribed;
  unsubscribed: Unsubscribed;
  join: Presence;
  leave: Presence;
  error: BrokerError;
}

/** `removed`: the key is gone from the topic's state; `data` may be undefined then. */
export interface PublishOptions { key?: string; idempotency_key?: string; removed?: boolean }
/** A condition on tags, or several. `vals` is for `in` and `nin`, `val` for the others but `ex` and `nex`, `nodes` for `op`. */
export type Filter =
  | { key: string; cmp: "eq" | "neq" | "sw" | "ew" | "ct" | "lt" | "lte" | "gt" | "gte"; val: string }
  | { key: string; cmp: "in" | "nin"; vals: string[] }
  | { key: string; cmp: "ex" | "nex" }
  | { op: "and" | "or" | "not"; nodes: Filter[] };
export interface SubscribeOptions {
  /** Where to begin; `0`: with all that is kept. Default: now. */
  since?: Position | 0;
  /** Most updates per second, from one in an hour to 1000; the newest always arrives. */
  rate?: number;
  /** Which publications are wanted, by their tags; the namespace must allow it. What it leaves out is no gap. */
  filter?: Filter;
}
export interface HistoryOptions { since?: Position | 0; limit?: number; reverse?: boolean }
export interface History<T = any> { publications: Omit<Publication<T>, "broker" | "topic">[]; position?: Position }
export interface Published { topic: string; position?: Position }
export type Sessions = Record<string, { user: string; client: string; conn_info?: any; chan_info?: any }>;

export interface Subscription<T = any> extends AsyncIterable<Publication<T> | Snapshot<T> | Gap> {
  readonly topic: string;
  /** Where it resumes after a break: behind everything that has come, so not at once at the `position` of an answer that something follows. */
  readonly position?: Position | 0;
  /** `refused`: asked for again with the next connection or user. `unsubscribed`: the end. */
  readonly status: "waiting" | "subscribing" | "subscribed" | "refused" | "unsubscribed";
  /** Adds a listener; answers what removes it. */
  on<E extends keyof TopicEvents<T>>(type: E, listener: (event: TopicEvents<T>[E]) => void): () => void;
  publish(data: T, options?: PublishOptions): Promise<Published>;
  history(options?: HistoryOptions): Promise<History<T>>;
  presence(): Promise<Sessions>;
  /** Ends it for good; never rejects. */
  unsubscribe(): Promise<void>;
}

export interface Client {
  /** What the last `state` event said. */
  readonly state: State;
  /** While connected. */
  readonly session: string | null;
  /** While connected; empty: anonymous. */
  readonly user: string | null;
  on(type: "state", listener: (state: State) => void): () => void;
  /** The server, or `authenticate`, has changed who this is. */
  on(type: "identity", listener: (identity: Identity) => void): () => void;
  /** A frame of the application's own: parsed JSON, text, or an `ArrayBuffer`. */
  on(type: "message", listener: (data: any) => void): () => void;
  /** Of topics that the server chose, as long as nobody subscribes to them here; errors that belong to no command. */
  on<E extends keyof TopicEvents<any>>(type: E, listener: (event: TopicEvents<any>[E]) => void): () => void;
  /** One subscription per topic: asked again, the same is answered, and the options are those of the first time. */
  subscribe<T = any>(topic: string, options?: SubscribeOptions): Subscription<T>;
  /** Rejects at once while there is no connection: nothing is kept back to be sent later. */
  publish(topic: string, data: any, options?: PublishOptions): Promise<Published>;
  history<T = any>(topic: string, options?: HistoryOptions): Promise<History<T>>;
  presence(topic: string): Promise<Sessions>;
  call(method: string, data?: any): Promise<any>;
  /** A frame of the application's own. */
  send(data: any): Promise<void>;
  /** Becomes whoever the token names; without a connection it is tried at once. Settles when that holds, or is refused. */
  authenticate(token: string): Promise<Identity>;
  /** Tries at once, also after a refusal. */
  retry(): void;
  /** The end, for good. */
  close(): void;
}

/** Connects, and stays connected until `close()`. */
export declare function connect(options?: Options): Client;
