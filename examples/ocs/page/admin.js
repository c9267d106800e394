// The users: what an admin changes of them. Open sockets and pages follow at once.

import { h, setText, toast } from "/kit/page.js";
import { call, complain } from "/session.js";

const host = document.getElementById("admin");

function card(user, menus, roles) {
  const id = `user-${user.id}`;
  const role = h("select", { id: `${id}-role` }, Object.keys(roles).map((name) => h("option", { selected: name === user.role }, name)));
  const boxes = menus.map((menu) => h("input", { type: "checkbox", value: menu, checked: user.menus.includes(menu) }));
  const groups = h("input", { id: `${id}-groups`, value: user.groups.join(" "), spellcheck: "false", autocapitalize: "none", "aria-describedby": `${id}-hint` });
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const save = h("button", { class: "button small primary", type: "submit" }, "Save");
  const form = h("form", { class: "card stack", "data-user": user.id },
    h("div", { class: "row spread" }, h("h2", {}, user.name), h("span", { class: "muted mono" }, user.id)),
    h("div", { class: "field" }, h("label", { for: `${id}-role` }, "Role"), role),
    h("fieldset", { class: "menus" }, h("legend", {}, "Menus"), boxes.map((box) => h("label", { class: "check" }, box, box.value))),
    h("div", { class: "field" }, h("label", { for: `${id}-groups` }, "Groups"), groups, h("p", { class: "hint", id: `${id}-hint` }, "Whose notices come, with spaces between: ocs_ris ocs_lis"), problem),
    h("div", { class: "row spread" }, h("span", { class: "muted small" }, "Open pages follow within a second."), save),
  );
  const put = async (change) => {
    problem.hidden = true;
    save.setAttribute("aria-busy", "true");
    try {
      const { user: changed } = await call(`users/${user.id}/`, { method: "PATCH", body: change });
      const next = card(changed, menus, roles);
      form.replaceWith(next);
      next.querySelector("[type=submit]").focus({ preventScroll: true });
      toast(`${changed.name} is changed`, { text: `${changed.role}: ${changed.groups.join(", ") || "no groups"}`, tone: "good" });
    } catch (error) {
      save.removeAttribute("aria-busy");
      if (error.status !== 400) return complain(error, "Not saved");
      problem.hidden = false;
      setText(problem, error.message);
    }
  };
  // Another role brings its own menus and groups: they are shown before anything is saved.
  role.addEventListener("change", () => {
    const brings = roles[role.value];
    for (const box of boxes) box.checked = brings.menus.includes(box.value);
    groups.value = brings.groups.join(" ").replaceAll("{id}", user.id);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    put({ role: role.value, menus: boxes.filter((box) => box.checked).map((box) => box.value), groups: groups.value.split(/[\s,]+/).filter(Boolean) });
  });
  return form;
}

export const admin = {
  async enter() {
    try {
      const { users, menus, roles } = await call("users/");
      host.replaceChildren(...users.map((user) => card(user, menus, roles)));
    } catch (error) {
      complain(error, "The users could not be read");
    }
  },
  forget: () => host.replaceChildren(),
};
