// Calls of the application over HTTP. The browser sends the cookie; nobody here ever sees a token.

/** What the server refused, and how to put it right. */
export class Refused extends Error {
  constructor(status, { message = `the server answered ${status}`, hint = "" } = {}) {
    super(message);
    this.status = status;
    this.hint = hint ?? "";
  }
}

/** One call under `/api/spc/`; resolves to the answer's JSON. */
export async function call(method, path, body) {
  let answer;
  try {
    answer = await fetch(`/api/spc/${path}`, { method, cache: "no-store", ...(body !== undefined && { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }) });
  } catch {
    throw new Refused(0, { message: "the server cannot be reached", hint: "try again when the page is live" });
  }
  const json = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, json.error);
  return json;
}
