import { UnavailableError, RateLimitError, invalid } from '../errors.js';
import type { HttpOptions } from '../http.js';
import type { AgentIdentity } from '../identity.js';
import { unlessAborted } from '../repeat.js';
import { issuerOf, wordsOf, type Words } from '../settings.js';
import { refused, requireScope, verifyClaims, type AccessTokenClaims, type Rules, type VerifiedToken } from './claims.js';
import { KeySet } from './keys.js';
import { StatusLists } from './status-list.js';

/** What is done with a token of which it cannot be known right now whether it is revoked. */
export type OnUnavailable = 'failClosed' | 'failOpen';

/** How tokens are verified. */
export interface VerifierOptions extends HttpOptions {
  /** The identity provider's URL; `AGENTIDP_ISSUER` unless it is set. */
  issuer?: string;
  /** Who you are: tokens must be for (one of) these. The `resource` that agents ask tokens for. */
  audience: string | readonly string[];
  /**
   * How revocation is noticed. `offline` (unless it is set): not before the token expires. `statusList`: within the time that
   * the issuer's list is kept, at no cost per token. `introspection`: at once, at the cost of one request per token.
   */
  mode?: 'offline' | 'statusList' | 'introspection';
  /** `failClosed` (unless it is set) refuses what cannot be known with {@link UnavailableError}, `failOpen` lets it pass. */
  onUnavailable?: OnUnavailable;
  /** Who asks in the mode `introspection`: an agent of the same organization. */
  identity?: AgentIdentity;
  /** By how many seconds clocks may differ; 5 unless it is set. */
  clockTolerance?: number;
}

/** What a single call may ask for. */
export interface VerifyOptions {
  /** Scopes that the token must carry, all of them. */
  scope?: Words;
  /** Ends the wait. */
  signal?: AbortSignal;
}

/** Verifies access tokens. Make one and keep it: it keeps the issuer's keys. */
export interface Verifier {
  /**
   * Verifies a token, and that it carries the scope.
   *
   * @throws {@link AuthenticationError} where it does not hold, {@link AuthorizationError} where it lacks a scope,
   * {@link UnavailableError} where that cannot be known.
   */
  verify(token: string, options?: VerifyOptions): Promise<VerifiedToken>;
}

type Check = (token: string, claims: AccessTokenClaims, signal: AbortSignal | undefined) => Promise<void>;

/**
 * Makes a verifier of the access tokens that an AgentIdP issues to agents (RFC 9068). Nothing is fetched before the first token.
 *
 * @example
 * ```ts
 * const verifier = createVerifier({ issuer: 'https://idp.example.com', audience: 'https://invoices.example.com' });
 * const { subject } = await verifier.verify(token, { scope: 'invoices:read' });
 * ```
 * @throws {@link ValidationError} where an option is missing or wrong.
 */
export function createVerifier(options: VerifierOptions): Verifier {
  const rules: Rules = { issuer: issuerOf(options.issuer), audience: wordsOf(options.audience), clockTolerance: options.clockTolerance ?? 5 };
  if (rules.audience.length === 0) throw invalid('audience', 'required', 'tokens must be for somebody');
  if (!(rules.clockTolerance >= 0)) throw invalid('clockTolerance', 'minimum', 'it must be 0 or more seconds');
  const keys = new KeySet(options, rules.issuer);
  const check = revocationCheck(options, rules, keys);
  const onUnavailable = options.onUnavailable ?? 'failClosed';
  if (!['failClosed', 'failOpen'].includes(onUnavailable)) throw invalid('onUnavailable', 'enum', 'it must be failClosed or failOpen');
  const open = onUnavailable === 'failOpen';

  return {
    async verify(token, { scope, signal } = {}) {
      signal?.throwIfAborted();
      const claims = await unlessAborted(verifyClaims(token, rules, keys), signal);
      const scopes = wordsOf(claims.scope);
      requireScope(scopes, scope);
      const revocationChecked = check !== undefined && (await passes(check(token, claims, signal), open));
      return { token, subject: claims.sub, clientId: claims.client_id, scopes, expiresAt: claims.exp, claims, revocationChecked };
    },
  };
}

function revocationCheck(options: VerifierOptions, rules: Rules, keys: KeySet): Check | undefined {
  switch (options.mode ?? 'offline') {
    case 'offline':
      return undefined;
    case 'statusList': {
      const lists = new StatusLists(options, rules.issuer, keys, rules.clockTolerance);
      return (_, claims, signal) => lists.check(claims, signal);
    }
    case 'introspection': {
      const { identity } = options;
      if (!identity) throw invalid('identity', 'required', 'introspection is asked for by an agent');
      return async (token, claims, signal) => {
        const answer = await identity.introspect(token, { signal, timeoutMs: options.timeoutMs });
        if (!answer.active || answer.jti !== claims.jti) throw refused('it is not active');
      };
    }
    default:
      throw invalid('mode', 'enum', 'it must be offline, statusList or introspection');
  }
}

/** Whether the check was made; what cannot be known passes where that was chosen. */
async function passes(check: Promise<void>, open: boolean): Promise<boolean> {
  try {
    await check;
    return true;
  } catch (error) {
    const unknown = error instanceof UnavailableError || error instanceof RateLimitError;
    if (unknown && open) return false;
    if (error instanceof RateLimitError) {
      throw new UnavailableError('it cannot be asked right now whether the token is revoked', { code: 'STATUS_UNKNOWN', cause: error, retryAfter: error.retryAfter });
    }
    throw error;
  }
}
