import type { JWTPayload } from 'jose' with { 'resolution-mode': 'import' };
import { AuthenticationError, AuthorizationError, UnavailableError } from '../errors.js';
import { wordsOf, type Words } from '../settings.js';
import type { KeySet } from './keys.js';

/** The claims of an access token (RFC 9068). */
export interface AccessTokenClaims {
  /** The identity provider. */
  iss: string;
  /** The agent. */
  sub: string;
  /** The agent, as OAuth sees it. */
  client_id: string;
  /** Whom the token is for. */
  aud: string | string[];
  /** When it expires, in seconds since 1970. */
  exp: number;
  /** When it was issued, in seconds since 1970. */
  iat: number;
  /** From when on it holds, in seconds since 1970. */
  nbf?: number;
  /** The token's own id. */
  jti: string;
  /** What was granted, separated by spaces. */
  scope?: string;
  /** The organization. */
  org?: string;
  /** The kind of agent. */
  agent_type?: string;
  /** The developer or team that answers for it. */
  owner?: string;
  /** `development`, `staging` or `production`. */
  deployment_env?: string;
  /** The credential that the token was obtained with. */
  cid?: string;
  /** Where its status is told (Token Status List). */
  status?: { status_list?: { idx: number; uri: string } };
  /** Further claims. */
  [claim: string]: unknown;
}

/** A token that was found to hold. It fits where the MCP SDK asks for its `AuthInfo`. */
export interface VerifiedToken {
  /** The token itself. */
  token: string;
  /** The agent's id, the `sub` of the token. */
  subject: string;
  /** The agent's id as OAuth sees it. */
  clientId: string;
  /** What the agent may do. */
  scopes: string[];
  /** When the token expires, in seconds since 1970. */
  expiresAt: number;
  /** All that the token says. */
  claims: AccessTokenClaims;
  /** Whether it is known not to be revoked: false in the mode `offline`, and where `failOpen` let it pass unasked. */
  revocationChecked: boolean;
}

/** What every token is held against. */
export interface Rules {
  issuer: string;
  audience: string[];
  clockTolerance: number;
}

/** The longest token that is looked at, in characters. */
const longestToken = 16 * 1024;
const algorithms = ['ES256', 'EdDSA', 'RS256'];

/**
 * Verifies signature and claims of an access token (RFC 9068 §4).
 *
 * @throws {@link AuthenticationError} where it does not hold, {@link UnavailableError} where the keys cannot be had.
 */
export async function verifyClaims(token: string, rules: Rules, keys: KeySet): Promise<AccessTokenClaims> {
  if (token.length > longestToken) throw refused('it is too long');
  const { jwtVerify, errors } = await import('jose');
  try {
    const { payload } = await jwtVerify(token, keys.get, {
      algorithms,
      typ: 'at+jwt',
      issuer: rules.issuer,
      audience: rules.audience,
      clockTolerance: rules.clockTolerance,
      requiredClaims: ['exp', 'sub', 'client_id', 'iat', 'jti'],
    });
    return readable(payload, rules);
  } catch (error) {
    if (error instanceof UnavailableError || error instanceof AuthenticationError) throw error;
    if (error instanceof errors.JOSEError || error instanceof TypeError) throw refused(error.message, error);
    throw error;
  }
}

function readable(payload: JWTPayload, rules: Rules): AccessTokenClaims {
  const claims = payload as AccessTokenClaims;
  for (const name of ['sub', 'client_id', 'jti'] as const) {
    if (typeof claims[name] !== 'string' || claims[name] === '') throw refused(`"${name}" must be a text`);
  }
  if (claims.scope !== undefined && typeof claims.scope !== 'string') throw refused('"scope" must be a text');
  if (claims.iat > Date.now() / 1000 + rules.clockTolerance) throw refused('it was issued in the future');
  return claims;
}

/**
 * Holds a token's scope against what is needed.
 *
 * @throws {@link AuthorizationError} that names the scope that is needed.
 */
export function requireScope(scopes: readonly string[], needed: Words | undefined): void {
  const missing = wordsOf(needed).filter((scope) => !scopes.includes(scope));
  if (missing.length === 0) return;
  throw new AuthorizationError(`the access token lacks the scope ${missing.join(' ')}`, {
    code: 'insufficient_scope',
    status: 403,
    details: { scope: wordsOf(needed).join(' ') },
  });
}

/** The refusal of a token. */
export function refused(why: string, cause?: unknown): AuthenticationError {
  return new AuthenticationError(`the access token is not valid: ${why}`, { code: 'invalid_token', status: 401, cause });
}
