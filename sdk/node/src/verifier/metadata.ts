import type { Schemas } from '../contract/types.js';
import { SentryAgentError, UnavailableError } from '../errors.js';
import { send, type HttpOptions } from '../http.js';

/** What the identity provider says of itself (RFC 8414). */
export type ServerMetadata = Schemas['ServerMetadata'];

/** Fetches a JSON document of the identity provider. */
export async function fetchJson<T>(http: HttpOptions, url: string): Promise<T> {
  const response = await send(http, { url, method: 'GET', safe: true });
  try {
    return (await response.json()) as T;
  } catch (cause) {
    throw new UnavailableError(`${url} is no JSON`, { code: 'UNEXPECTED_ANSWER', status: response.status, cause });
  }
}

/**
 * Fetches the metadata, which must be that of this issuer (RFC 8414 §3.3).
 *
 * @throws {@link SentryAgentError} with the code `ISSUER_MISMATCH` where it is another's.
 */
export async function discover(http: HttpOptions, issuer: string): Promise<ServerMetadata> {
  const metadata = await fetchJson<ServerMetadata>(http, `${issuer}/.well-known/oauth-authorization-server`);
  if (metadata.issuer !== issuer) {
    throw new SentryAgentError(`the metadata is that of ${metadata.issuer}, not of ${issuer}`, { code: 'ISSUER_MISMATCH' });
  }
  return metadata;
}
