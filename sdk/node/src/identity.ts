import { basic, credentialSource, type ClientCredential, type CredentialOptions, type CredentialSource, type ReadCredential, type UsableCredential } from './credential.js';
import type { Schemas } from './contract/types.js';
import { deadline } from './deadline.js';
import { CredentialError, UnavailableError, type SentryAgentError } from './errors.js';
import { send, type HttpOptions } from './http.js';
import { repeat, unlessAborted } from './repeat.js';
import { issuerOf, wordsOf, type Words } from './settings.js';
import { TokenCache, type AccessToken, type Grant } from './token-cache.js';

/** How an agent proves who it is. All of it can stand in the environment instead. */
export interface IdentityOptions extends CredentialOptions, HttpOptions {
  /** The identity provider's URL; `AGENTIDP_ISSUER` unless it is set. */
  issuer?: string;
  /** The scope of tokens for which none is named; `AGENTIDP_SCOPE` unless it is set, else whatever the agent may have. */
  scope?: Words;
  /** Whom tokens are for where nothing is named (RFC 8707); `AGENTIDP_RESOURCE` unless it is set. */
  resource?: Words;
  /** What this instance of the agent calls itself, so that it shows who uses which secret; 1 to 64 of `A-Za-z0-9._:/-`. */
  instance?: string;
  /** Told when a renewal ahead of time failed. The token at hand still holds, and the next call tries again. */
  onRenewalError?: (error: SentryAgentError) => void;
}

/** Which token is wanted. */
export interface TokenRequest {
  /** Capabilities of the agent; without any, all but its management scopes. */
  scope?: Words;
  /** Whom the token is for: absolute URIs (RFC 8707). Without any it is for the identity provider itself. */
  resource?: Words;
  /** Lets go of the wait; others who want the same token still get it. */
  signal?: AbortSignal;
}

/** What `identity.fetch` takes beside what `fetch` takes. */
export interface FetchInit extends RequestInit {
  /** The scope of the token. */
  scope?: Words;
  /** Whom the token is for; the origin of the URL unless this, or the identity's own `resource`, says otherwise. */
  resource?: Words;
  /** How long each attempt may take until the headers are here, in milliseconds; as long as it takes unless it is set. */
  timeoutMs?: number;
}

/** A secret that was just rotated. */
export interface RotatedCredential extends ClientCredential {
  clientSecret: string;
  /** The id of the credential. */
  credentialId: string;
  /** When it ends; null where it does not. */
  expiresAt: Date | null;
}

/** How the own secret is rotated. */
export interface RotateOptions {
  /** Keeps the successor before it is used. Where it fails the present secret is used on, and the successor comes to nothing. */
  save?: (credential: RotatedCredential) => void | Promise<void>;
  signal?: AbortSignal;
  timeoutMs?: number;
}

/** What introspection says of a token (RFC 7662). */
export type Introspection = Schemas['Introspection'];

const safeMethods: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE']);

/**
 * The identity of an agent: it gets tokens, keeps them in memory, and renews them before they expire. One is enough for a
 * process, however many calls it makes at once.
 *
 * @example
 * ```ts
 * const identity = new AgentIdentity(); // AGENTIDP_ISSUER, AGENTIDP_CLIENT_ID, AGENTIDP_CLIENT_SECRET
 * const answer = await identity.fetch('https://invoices.example.com/invoices', { scope: 'invoices:read' });
 * ```
 */
export class AgentIdentity {
  /** The identity provider's URL. */
  readonly issuer: string;
  readonly #http: HttpOptions;
  readonly #defaults: { scope: Words | undefined; resource: Words | undefined };
  readonly #instance: string | undefined;
  readonly #tokens: TokenCache;
  #credential: ReadCredential;

  /** @throws {@link ValidationError} where the issuer or the credential is missing, or given twice. */
  constructor(options: IdentityOptions = {}) {
    this.issuer = issuerOf(options.issuer);
    this.#credential = credentialSource(options);
    this.#http = options;
    this.#instance = options.instance;
    this.#defaults = { scope: options.scope ?? process.env['AGENTIDP_SCOPE'], resource: options.resource ?? process.env['AGENTIDP_RESOURCE'] };
    this.#tokens = new TokenCache(options.onRenewalError ?? ((): void => undefined));
  }

  /**
   * Gives a token for a scope and a resource: the one at hand, or a new one. Calls at the same time share one request.
   *
   * @throws {@link CredentialError} where the credential is refused, {@link AuthorizationError} where the agent lacks the
   * capability, {@link RateLimitError} and {@link UnavailableError} after the retries.
   */
  async getToken(request: TokenRequest = {}): Promise<string> {
    return (await this.getAccessToken(request)).token;
  }

  /** Like {@link AgentIdentity.getToken}, with what was granted and until when. */
  async getAccessToken(request: TokenRequest = {}): Promise<AccessToken> {
    request.signal?.throwIfAborted();
    const { scope, resource, key } = this.#wanted(request);
    const { token, scope: granted, expiresAt } = await unlessAborted(
      this.#tokens.get(key, () => this.#ask(scope, resource)),
      request.signal,
    );
    return { token, scope: granted, expiresAt };
  }

  /**
   * `fetch` with the agent's token. Where it is refused (401) the token is renewed and the request sent once more; 429, and for
   * methods that may be repeated 502 to 504 and broken connections, are tried again after a wait. It is bound, so that it can
   * be handed to libraries that take a `fetch`.
   */
  readonly fetch = async (input: string | URL | Request, init: FetchInit = {}): Promise<Response> => {
    const { scope, resource, timeoutMs, ...rest } = init;
    const { fetch = globalThis.fetch } = this.#http;
    const given = input instanceof Request ? input : undefined;
    const url = new URL(input instanceof Request ? input.url : input);
    const signal = rest.signal ?? given?.signal ?? undefined;
    const method = (rest.method ?? given?.method ?? 'GET').toUpperCase();
    const replayable = !(rest.body instanceof ReadableStream); // a stream can be read once

    const once = async (token: string): Promise<Response> => {
      const headers = new Headers(rest.headers ?? given?.headers);
      headers.set('authorization', `Bearer ${token}`);
      const limit = timeoutMs === undefined ? undefined : deadline(url, timeoutMs, signal);
      try {
        return await fetch(given?.clone() ?? url, { ...rest, headers, signal: limit?.signal ?? signal });
      } catch (cause) {
        throw limit?.explain(cause) ?? cause;
      } finally {
        limit?.clear('headers');
      }
    };
    return this.authorized({ scope, resource: resource ?? this.#resourceOf(url), signal }, replayable, (token) =>
      repeat(replayable ? this.#http : { retries: 0 }, safeMethods.has(method), signal, () => once(token)),
    );
  };

  /** A `fetch` whose tokens are for this scope and resource, to be handed to a library. */
  fetchFor(request: Pick<TokenRequest, 'scope' | 'resource'>): (input: string | URL | Request, init?: RequestInit) => Promise<Response> {
    return (input, init) => this.fetch(input, { ...request, ...init });
  }

  /**
   * Asks whether a token holds right now (RFC 7662), authenticated as this agent.
   *
   * @throws as {@link AgentIdentity.getToken} does.
   */
  async introspect(token: string, options: { signal?: AbortSignal; timeoutMs?: number } = {}): Promise<Introspection> {
    const response = await this.#post('/oauth2/introspect', new URLSearchParams({ token }), options);
    return (await response.json()) as Introspection;
  }

  /**
   * Ends a token of this agent (RFC 7009) and forgets it.
   *
   * @throws as {@link AgentIdentity.getToken} does.
   */
  async revoke(token: string, options: { signal?: AbortSignal; timeoutMs?: number } = {}): Promise<void> {
    await this.#post('/oauth2/revoke', new URLSearchParams({ token }), options);
    this.#tokens.forgetToken(token);
  }

  /**
   * Rotates the own secret, where a rotation policy of the organization lets the agent: authenticates with the present one, and goes on
   * with its successor, which is not shown again. A file, an environment or a function that the secret was read from is not read any
   * more: have `save` write there. The present secret lives on for the policy's overlap once the successor was used.
   *
   * @throws {@link AuthorizationError} (`unauthorized_client`) where the agent may not, and else as {@link AgentIdentity.getToken} does.
   */
  async rotate({ save, ...options }: RotateOptions = {}): Promise<RotatedCredential> {
    const { clientId } = await this.#credential();
    const response = await this.#post('/oauth2/rotate', new URLSearchParams({ client_id: clientId }), options);
    const answer = (await response.json()) as Schemas['RotatedSecret'];
    const ends = answer.client_secret_expires_at;
    const next: RotatedCredential = {
      clientId: answer.client_id,
      clientSecret: answer.client_secret,
      credentialId: answer.credential_id,
      expiresAt: ends > 0 ? new Date(1000 * ends) : null,
    };
    await save?.(next);
    this.setCredential(next);
    return next;
  }

  /**
   * Goes on with another credential from now on, such as the answer to a rotation. Tokens of the old one are forgotten. A
   * secret in a file, in the environment or from a function is picked up by itself and needs no call.
   */
  setCredential(credential: ClientCredential | CredentialSource): void {
    this.#credential = credentialSource({ credential });
    this.#tokens.clear();
  }

  /**
   * Runs a request with a token and, where the answer is 401, once more with a new one.
   *
   * @internal
   */
  async authorized(wanted: TokenRequest, replayable: boolean, run: (token: string) => Promise<Response>): Promise<Response> {
    const token = await this.getToken(wanted);
    const response = await run(token);
    if (response.status !== 401) return response;
    this.#tokens.forget(this.#wanted(wanted).key, token);
    if (!replayable) return response;
    await response.body?.cancel();
    return run(await this.getToken(wanted));
  }

  #wanted(request: TokenRequest): { scope: string[]; resource: string[]; key: string } {
    const scope = wordsOf(request.scope ?? this.#defaults.scope);
    const resource = wordsOf(request.resource ?? this.#defaults.resource);
    return { scope, resource, key: JSON.stringify([scope, resource]) };
  }

  /** Whom a token is for that is sent to a URL: its origin, where nothing else was said; the identity provider takes none but its own. */
  #resourceOf(url: URL): Words {
    return url.origin === new URL(this.issuer).origin ? [] : (this.#defaults.resource ?? url.origin);
  }

  async #ask(scope: string[], resource: string[]): Promise<Grant> {
    const form = new URLSearchParams({ grant_type: 'client_credentials' });
    if (scope.length > 0) form.set('scope', scope.join(' '));
    for (const each of resource) form.append('resource', each);
    const response = await this.#post('/oauth2/token', form, {});
    const answer = (await response.json()) as Schemas['TokenAnswer'];
    if (typeof answer.access_token !== 'string' || !(answer.expires_in > 0)) {
      throw new UnavailableError('the token endpoint answered without a token', { code: 'UNEXPECTED_ANSWER', status: response.status });
    }
    return { token: answer.access_token, scope: answer.scope, lifetimeMs: 1000 * answer.expires_in };
  }

  #named(): Record<string, string> {
    return this.#instance === undefined ? {} : { 'agent-instance': this.#instance };
  }

  /** Posts a form as this client. A credential that is refused is read again: it may just have been rotated. */
  async #post(path: string, body: URLSearchParams, options: { signal?: AbortSignal; timeoutMs?: number }): Promise<Response> {
    const attempt = (credential: UsableCredential): Promise<Response> =>
      send(this.#http, { url: this.issuer + path, method: 'POST', headers: { authorization: basic(credential), ...this.#named() }, body, safe: true, ...options });
    const used = await this.#credential();
    try {
      return await attempt(used);
    } catch (error) {
      if (!(error instanceof CredentialError)) throw error;
      const fresh = await this.#credential();
      if (fresh.clientId === used.clientId && fresh.clientSecret === used.clientSecret) throw error;
      return attempt(fresh);
    }
  }
}
