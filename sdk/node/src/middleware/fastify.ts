import { admit, type BearerOptions } from '../verifier/bearer.js';
import type { VerifiedToken } from '../verifier/claims.js';
import type { Verifier } from '../verifier/verifier.js';

/** What is used of a Fastify request. */
export interface FastifyRequestLike {
  headers: { authorization?: string };
}

/** What is used of a Fastify reply. */
export interface FastifyReplyLike {
  code(status: number): unknown;
  headers(headers: Record<string, string>): unknown;
  send(body: unknown): unknown;
}

/**
 * A hook for Fastify 5, for all routes (`addHook('onRequest', …)`) or for one (`{ onRequest: … }`): lets requests in whose
 * token holds and carries the scope, and answers all others as RFC 6750 says. {@link tokenOf} gives the token then.
 *
 * @example
 * ```ts
 * app.get('/invoices', { onRequest: fastifyBearer(verifier, { scope: 'invoices:read' }) }, async (req) => ({ agent: tokenOf(req).subject }));
 * ```
 */
export function fastifyBearer(verifier: Verifier, options: BearerOptions = {}) {
  return async (request: FastifyRequestLike, reply: FastifyReplyLike): Promise<void> => {
    const { token, refusal } = await admit(verifier, request.headers.authorization, options);
    if (refusal) {
      reply.code(refusal.status);
      reply.headers(refusal.headers);
      await reply.send(refusal.body);
      return;
    }
    (request as { auth?: VerifiedToken }).auth = token;
  };
}
