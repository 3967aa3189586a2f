import { admit, type BearerOptions } from '../verifier/bearer.js';
import type { VerifiedToken } from '../verifier/claims.js';
import type { Verifier } from '../verifier/verifier.js';

/** What is used of a Hono context. */
export interface HonoContextLike {
  req: { header(name: string): string | undefined };
  set(key: 'auth', value: VerifiedToken): void;
  json(body: unknown, status: never, headers: Record<string, string>): Response;
}

/**
 * Middleware for Hono: lets requests in whose token holds and carries the scope, and answers all others as RFC 6750 says.
 * The token is the variable `auth` then; {@link tokenOf} gives it with its type.
 *
 * @example
 * ```ts
 * app.get('/invoices', honoBearer(verifier, { scope: 'invoices:read' }), (c) => c.json({ agent: tokenOf(c).subject }));
 * ```
 */
export function honoBearer(verifier: Verifier, options: BearerOptions = {}) {
  return async (c: HonoContextLike, next: () => Promise<void>): Promise<Response | void> => {
    const { token, refusal } = await admit(verifier, c.req.header('authorization'), options);
    if (refusal) return c.json(refusal.body, refusal.status as never, refusal.headers);
    c.set('auth', token);
    await next();
  };
}
