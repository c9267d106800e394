// End-to-end encryption of an alert's words. The key comes from a passphrase that the product's team shares by other means; it never leaves the
// browser, and neither server nor broker can read what it seals. Product, type and priority stay readable: they route and filter.

const ROUNDS = 210_000; // what OWASP asks of PBKDF2 with SHA-512
const text = new TextEncoder();

const base64 = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes)));
const bytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
// What stands beside the sealed words is sealed with them: nobody moves them to another product or priority.
const around = ({ product_id, alert_type, priority }) => text.encode(JSON.stringify([product_id, alert_type, priority]));

/** Keys of this browser, by product; scripts can use but not read them. */
const keys = new Map();

function database(mode, work) {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open("spc-keys", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("keys");
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      const transaction = opening.result.transaction("keys", mode);
      const request = work(transaction.objectStore("keys"));
      transaction.oncomplete = () => (opening.result.close(), resolve(request.result));
      transaction.onabort = () => reject(transaction.error);
    };
  });
}

/** Takes the keys of a user out of the browser's store. */
export async function loadKeys(user, products) {
  keys.clear();
  for (const { id } of products) {
    const key = await database("readonly", (store) => store.get(`${user}:${id}`)).catch(() => undefined);
    if (key) keys.set(id, key);
  }
}

/** Makes a product's key from the team's passphrase, and keeps it. An empty one forgets it. */
export async function setKey(user, product, passphrase) {
  if (!passphrase) {
    keys.delete(product);
    return database("readwrite", (store) => store.delete(`${user}:${product}`));
  }
  const material = await crypto.subtle.importKey("raw", text.encode(passphrase), "PBKDF2", false, ["deriveKey"]);
  const how = { name: "PBKDF2", hash: "SHA-512", iterations: ROUNDS, salt: text.encode(`spc:product:${product}`) };
  const key = await crypto.subtle.deriveKey(how, material, { name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
  keys.set(product, key);
  await database("readwrite", (store) => store.put(key, `${user}:${product}`));
}

export const hasKey = (product) => keys.has(product);

/** Seals title and message of a draft. */
export async function seal(draft) {
  const iv = crypto.getRandomValues(new Uint8Array(12));
  const additionalData = around(draft);
  const words = text.encode(JSON.stringify({ title: draft.title, message: draft.message }));
  const data = await crypto.subtle.encrypt({ name: "AES-GCM", iv, additionalData }, keys.get(draft.product_id), words);
  return { iv: base64(iv), data: base64(data) };
}

/** Title and message of a sealed notice; `null`: this browser has not the key, or another one. */
export async function unseal(notice) {
  const key = keys.get(notice.product_id);
  if (!key) return null;
  try {
    const { iv, data } = notice.sealed;
    const words = await crypto.subtle.decrypt({ name: "AES-GCM", iv: bytes(iv), additionalData: around(notice) }, key, bytes(data));
    return JSON.parse(new TextDecoder().decode(words));
  } catch {
    return null;
  }
}
