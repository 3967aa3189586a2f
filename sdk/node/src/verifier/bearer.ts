import { AuthenticationError, AuthorizationError, SentryAgentError, UnavailableError } from '../errors.js';
import { wordsOf, type Words } from '../settings.js';
import type { VerifiedToken } from './claims.js';
import type { Verifier } from './verifier.js';

/** How a service asks for tokens. */
export interface BearerOptions {
  /** Scopes that the token must carry, all of them. */
  scope?: Words;
  /** The URL of this service's metadata (RFC 9728), for clients that find out by it where tokens are had, as MCP asks. */
  resourceMetadata?: string | URL;
}

/** What is answered where a request is not let in (RFC 6750 §3). */
export interface Refusal {
  status: 400 | 401 | 403 | 503;
  headers: Record<string, string>;
  body: { error: string; error_description: string };
}

/** The outcome for one request. */
export type Admission = { token: VerifiedToken; refusal?: undefined } | { token?: undefined; refusal: Refusal };

/**
 * Decides whether a request is let in, by its `Authorization` header. The middlewares are thin coats of it, and so can
 * yours be.
 *
 * @throws what is neither the token's fault nor an outage, such as a wrong credential of the service itself.
 */
export async function admit(verifier: Verifier, authorization: string | undefined, options: BearerOptions = {}): Promise<Admission> {
  const [scheme, ...rest] = (authorization ?? '').split(' ');
  if (scheme?.toLowerCase() !== 'bearer') return refuse(401, undefined, 'a bearer token is required', options);
  const token = rest.join(' ').trim();
  if (!/^[A-Za-z0-9\-._~+/]+=*$/.test(token)) return refuse(400, 'invalid_request', 'the Authorization header holds no bearer token', options);
  try {
    return { token: await verifier.verify(token, { scope: options.scope }) };
  } catch (error) {
    if (error instanceof AuthenticationError) return refuse(401, 'invalid_token', error.message, options);
    if (error instanceof AuthorizationError) return refuse(403, 'insufficient_scope', error.message, options);
    if (error instanceof UnavailableError) return unavailable(error);
    throw error;
  }
}

function refuse(status: 400 | 401 | 403, error: string | undefined, description: string, options: BearerOptions): Admission {
  const scope = wordsOf(options.scope).join(' ');
  const parameters = [
    // without a token there is nothing to be said of it (RFC 6750 §3.1)
    ...(error ? [`error="${error}"`, `error_description="${quotable(description)}"`] : []),
    ...(scope ? [`scope="${quotable(scope)}"`] : []),
    ...(options.resourceMetadata ? [`resource_metadata="${quotable(String(options.resourceMetadata))}"`] : []),
  ];
  return {
    refusal: {
      status,
      headers: { 'www-authenticate': ['Bearer', parameters.join(', ')].filter(Boolean).join(' '), 'cache-control': 'no-store' },
      body: { error: error ?? 'invalid_token', error_description: description },
    },
  };
}

function unavailable(error: SentryAgentError): Admission {
  return {
    refusal: {
      status: 503,
      headers: { 'retry-after': String(Math.ceil(error.retryAfter ?? 1)), 'cache-control': 'no-store' },
      body: { error: 'temporarily_unavailable', error_description: 'tokens cannot be verified right now' },
    },
  };
}

/** What may stand between quotes in a challenge (RFC 6750 §3: no quotes and no backslashes, ASCII). */
function quotable(text: string): string {
  return text.replace(/["\\]/g, "'").replace(/[^\x20-\x7e]/g, '?');
}
