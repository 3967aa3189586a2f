import { SentryAgentError } from '../errors.js';
import type { VerifiedToken } from '../verifier/claims.js';

/**
 * Gives the token that a middleware of this SDK let in.
 *
 * @param request - The request in Express and Fastify, the context in Hono.
 * @throws {@link SentryAgentError} with the code `NOT_VERIFIED` where no middleware stood before the handler, so that a
 * forgotten one is noticed.
 */
export function tokenOf(request: object): VerifiedToken {
  const { auth, var: variables } = request as { auth?: VerifiedToken; var?: { auth?: VerifiedToken } };
  const token = auth ?? variables?.auth;
  if (!token) throw new SentryAgentError('no middleware verified a token for this request', { code: 'NOT_VERIFIED' });
  return token;
}
