// Connection tokens as an application's backend would sign them.

import { createHmac } from 'node:crypto';

/** The HMAC secret that servers with tokens are started with: 32 bytes and more. */
export const SECRET = 'a-secret-of-the-end-to-end-tests-0123456789';

const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** Signs `claims` with HS256. */
export function token(claims, secret = SECRET) {
  const signed = `${base64url({ alg: 'HS256', typ: 'JWT' })}.${base64url(claims)}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}
