// Raising an alert: the form, the transaction that is rolled back, and how other programs do it.

import { h, toast } from "/kit/page.js";
import { call } from "/server.js";
import { hasKey, seal } from "/seal.js";

/** A name of the page's own, so that a second try of the same alert is stored once. */
const newId = () => crypto.randomUUID();

/** Makes the form work. `me()` is who is logged in. */
export function raiseForm(form, me) {
  const field = (name) => form.elements[name];
  const problem = form.querySelector(".problem");
  let id = newId();

  const draft = async () => {
    const product_id = Number(field("product").value);
    const words = { product_id, alert_type: field("alert_type").value.trim(), priority: field("priority").value, title: field("title").value.trim(), message: field("message").value.trim() };
    const { title, message, alert_type, priority } = words;
    const body = { id, product: product_id, alert_type, priority };
    return field("sealed").checked ? { ...body, sealed: await seal(words) } : { ...body, title, message };
  };

  const send = async (path, done) => {
    problem.textContent = "";
    form.setAttribute("aria-busy", "true");
    try {
      done(await call("POST", path, await draft()));
    } catch (refused) {
      problem.textContent = [refused.message, refused.hint].filter(Boolean).join(". ");
      return refused;
    } finally {
      form.removeAttribute("aria-busy");
    }
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send("alerts/", () => {
      id = newId();
      field("title").value = field("message").value = "";
      toast("Alert raised", { text: "Stored and on its way to everybody who may see it.", tone: "good" });
    });
  });
  form.querySelector("[data-rollback]").addEventListener("click", async () => {
    const refused = await send("alerts/?rollback=true", () => {});
    if (refused?.status !== 409) return;
    problem.textContent = "";
    toast("Rolled back", { text: "The alert was stored and staged, then the transaction failed: nobody hears of it.", tone: "info" });
  });

  /** Who is logged in has changed, or their keys. */
  return () => {
    const { user, products } = me();
    const chosen = field("product").value;
    field("product").replaceChildren(...products.map(({ id, name }) => h("option", { value: id, selected: String(id) === chosen }, name)));
    const mayRaise = user.role !== "viewer";
    form.closest("details").hidden = !mayRaise;
    const sealable = () => {
      const has = hasKey(Number(field("product").value));
      field("sealed").disabled = !has;
      if (!has) field("sealed").checked = false;
      form.querySelector("[data-seal-hint]").hidden = has;
    };
    field("product").onchange = sealable;
    sealable();
  };
}
