import { admit, type BearerOptions } from '../verifier/bearer.js';
import type { VerifiedToken } from '../verifier/claims.js';
import type { Verifier } from '../verifier/verifier.js';

/** What is used of an Express request. */
export interface ExpressRequest {
  headers: { authorization?: string };
  auth?: unknown;
}

/** What is used of an Express response. */
export interface ExpressResponse {
  status(code: number): ExpressResponse;
  set(headers: Record<string, string>): ExpressResponse;
  json(body: unknown): unknown;
}

/**
 * Middleware for Express 5: lets requests in whose token holds and carries the scope, and answers all others as RFC 6750
 * says. The token is `req.auth` then; {@link tokenOf} gives it with its type.
 *
 * @example
 * ```ts
 * app.get('/invoices', expressBearer(verifier, { scope: 'invoices:read' }), (req, res) => res.json({ agent: tokenOf(req).subject }));
 * ```
 */
export function expressBearer(verifier: Verifier, options: BearerOptions = {}) {
  return async (req: ExpressRequest, res: ExpressResponse, next: (error?: unknown) => void): Promise<void> => {
    try {
      const { token, refusal } = await admit(verifier, req.headers.authorization, options);
      if (refusal) {
        res.status(refusal.status).set(refusal.headers).json(refusal.body);
        return;
      }
      (req as { auth?: VerifiedToken }).auth = token;
    } catch (error) {
      next(error);
      return;
    }
    next();
  };
}
