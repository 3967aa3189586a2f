import type { CryptoKey, JSONWebKeySet, JWSHeaderParameters } from 'jose' with { 'resolution-mode': 'import' };
import { UnavailableError, type SentryAgentError } from '../errors.js';
import type { HttpOptions } from '../http.js';
import { discover, fetchJson, type ServerMetadata } from './metadata.js';

/** The contract's bound on keeping the key set: a key that was taken away after a compromise is dead after five minutes. */
const keepMs = 5 * 60_000;
/** From this age on the set is fetched again behind the callers' backs, so that a short outage is not noticed. */
const refreshMs = 3 * 60_000;
/** Unknown key ids, which anybody can make up, cause no more than one fetch in this time. */
const cooldownMs = 10_000;

type Find = (header: JWSHeaderParameters) => Promise<CryptoKey>;

/** The issuer's public keys: found by its metadata, kept, and fetched again when they grow old or a key is not among them. */
export class KeySet {
  readonly #http: HttpOptions;
  readonly #issuer: string;
  #metadata: ServerMetadata | undefined;
  #known: { find: Find; fetchedAt: number } | undefined;
  #pending: Promise<Find> | undefined;
  #triedAt = -Infinity;

  constructor(http: HttpOptions, issuer: string) {
    this.#http = http;
    this.#issuer = issuer;
  }

  /**
   * Gives the key that a token's header names.
   *
   * @throws {@link UnavailableError} where the keys cannot be fetched, and jose's JWKSNoMatchingKey where there is no such key.
   */
  readonly get = async (header: JWSHeaderParameters): Promise<CryptoKey> => {
    const { errors } = await import('jose');
    const known = this.#known;
    const age = known ? Date.now() - known.fetchedAt : Infinity;
    if (!known || age > keepMs || age < 0) return (await this.#fetch())(header);
    if (age > refreshMs && this.#cool()) this.#fetch().catch(() => undefined); // a later call is told, when the set is too old
    try {
      return await known.find(header);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      if (!this.#pending && !this.#cool()) throw error;
      return (await this.#fetch())(header);
    }
  };

  #cool(): boolean {
    return Math.abs(Date.now() - this.#triedAt) > cooldownMs;
  }

  /** Fetches the set; callers at the same time share one fetch. */
  #fetch(): Promise<Find> {
    this.#triedAt = Date.now();
    this.#pending ??= this.#load().finally(() => (this.#pending = undefined));
    return this.#pending;
  }

  async #load(): Promise<Find> {
    const { createLocalJWKSet } = await import('jose');
    try {
      this.#metadata ??= await discover(this.#http, this.#issuer);
      const find = createLocalJWKSet(await fetchJson<JSONWebKeySet>(this.#http, this.#metadata.jwks_uri));
      this.#known = { find, fetchedAt: Date.now() };
      return find;
    } catch (cause) {
      this.#metadata = undefined; // the keys may have moved
      throw new UnavailableError(`the keys of ${this.#issuer} cannot be fetched: ${(cause as Error).message}`, {
        code: 'KEYS_UNAVAILABLE',
        cause,
        retryAfter: (cause as SentryAgentError).retryAfter,
      });
    }
  }
}
