// Calls of the server over REST. The browser's cookie says who asks.

const TIMEOUT_MS = 8_000;

/** A call that did not succeed. `status` 0: there was no answer, so that it may have been done or not. */
export class Failed extends Error {
  constructor(status, { code = 0, error = "unreachable", message = "the server does not answer", hint = "", retry_after_ms = 0 } = {}) {
    super(message);
    Object.assign(this, { name: "Failed", status, code, word: error, hint, retryAfterMs: retry_after_ms });
  }

  /** Whether the same call may succeed later. */
  get isTemporary() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

async function call(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    throw new Failed(0);
  }
  let answer = {};
  try {
    answer = response.status === 204 ? {} : await response.json();
  } catch {
    // A balancer without a node behind it answers in HTML, or is cut in the middle.
    throw new Failed(response.ok ? 0 : response.status);
  }
  if (!response.ok) throw new Failed(response.status, answer.error);
  return answer;
}

const of = (session) => `/api/sessions/${encodeURIComponent(session)}`;

export const signUp = (name, password) => call("POST", "/api/signup", { name, password });
export const logIn = (name, password) => call("POST", "/api/login", { name, password });
export const logOut = () => call("POST", "/api/logout");
export const token = () => call("GET", "/api/token");
export const sessions = () => call("GET", "/api/sessions");
export const createSession = (title) => call("POST", "/api/sessions", title ? { title } : {});
export const details = (session) => call("GET", of(session));
export const messages = (session, { before, after, limit = 100 }) => call("GET", `${of(session)}/messages?limit=${limit}${after === undefined ? `&before=${before}` : `&after=${after}`}`);
export const send = (session, content, clientId) => call("POST", `${of(session)}/messages`, { content, clientId });
export const leave = (session) => call("POST", `${of(session)}/leave`);
export const ticket = (session) => call("POST", `${of(session)}/ticket`);
export const invitation = (code) => call("GET", `/api/invites/${encodeURIComponent(code)}`);
export const join = (code) => call("POST", `/api/invites/${encodeURIComponent(code)}`);
