import { promisify } from 'node:util';
import { inflate } from 'node:zlib';
import { UnavailableError } from '../errors.js';
import { send, type HttpOptions } from '../http.js';
import { unlessAborted } from '../repeat.js';
import { refused, type AccessTokenClaims } from './claims.js';
import type { KeySet } from './keys.js';

/** One token's place in a list. */
interface Reference {
  idx: number;
  uri: string;
}

interface List {
  bits: number;
  bytes: Uint8Array;
  freshUntil: number;
}

/** The longest list that is unpacked, in bytes; that is 134 million tokens. */
const largestList = 16 * 1024 * 1024;
/** How long a list is kept that says nothing of it, and the longest that any is kept, in milliseconds. */
const keepMs = 60_000;
const keepAtMostMs = 15 * 60_000;

/**
 * Looks tokens up in the issuer's Token Status Lists (draft-ietf-oauth-status-list): one fetch tells of many tokens. Only
 * lists at the issuer's own origin are fetched, whatever a token says.
 */
export class StatusLists {
  readonly #lists = new Map<string, List>();
  readonly #pending = new Map<string, Promise<List>>();

  constructor(
    private readonly http: HttpOptions,
    private readonly issuer: string,
    private readonly keys: KeySet,
    private readonly clockTolerance: number,
  ) {}

  /**
   * Holds a token against its list.
   *
   * @throws {@link AuthenticationError} where it is revoked or suspended, {@link UnavailableError} where that cannot be known.
   */
  async check(claims: AccessTokenClaims, signal?: AbortSignal): Promise<void> {
    const reference = this.#referenceOf(claims);
    const list = await unlessAborted(this.#list(reference.uri), signal);
    const status = statusAt(list, reference.idx);
    if (status !== 0) throw refused(`its status is ${status === 1 ? 'invalid' : status === 2 ? 'suspended' : status}`);
  }

  #referenceOf(claims: AccessTokenClaims): Reference {
    const reference = claims.status?.status_list;
    if (!reference || !Number.isSafeInteger(reference.idx) || reference.idx < 0 || typeof reference.uri !== 'string') {
      throw unknown('the token does not say where its status is told');
    }
    if (!URL.canParse(reference.uri) || new URL(reference.uri).origin !== new URL(this.issuer).origin) {
      throw unknown(`its status is told at ${reference.uri}, which is not of ${this.issuer}`);
    }
    return reference;
  }

  #list(uri: string): Promise<List> {
    const kept = this.#lists.get(uri);
    if (kept && Date.now() < kept.freshUntil) return Promise.resolve(kept);
    let pending = this.#pending.get(uri);
    if (!pending) {
      pending = this.#fetch(uri).finally(() => this.#pending.delete(uri));
      this.#pending.set(uri, pending);
    }
    return pending;
  }

  async #fetch(uri: string): Promise<List> {
    const { jwtVerify, errors } = await import('jose');
    const response = await send(this.http, { url: uri, method: 'GET', headers: { accept: 'application/statuslist+jwt' }, safe: true });
    try {
      const { payload } = await jwtVerify(await response.text(), this.keys.get, {
        algorithms: ['ES256', 'EdDSA', 'RS256'],
        typ: 'statuslist+jwt',
        subject: uri,
        clockTolerance: this.clockTolerance,
        requiredClaims: ['iat', 'sub'],
      });
      if (payload.iss !== undefined && payload.iss !== this.issuer) throw unknown('the list is of another issuer');
      const list = await unpack(payload['status_list']);
      const ttlMs = typeof payload['ttl'] === 'number' && payload['ttl'] > 0 ? 1000 * payload['ttl'] : keepMs;
      const freshUntil = Math.min(Date.now() + Math.min(ttlMs, keepAtMostMs), 1000 * (payload.exp ?? Infinity));
      this.#lists.set(uri, { ...list, freshUntil });
      for (const [other, { freshUntil: end }] of this.#lists) if (end < Date.now()) this.#lists.delete(other);
      return { ...list, freshUntil };
    } catch (cause) {
      if (cause instanceof errors.JOSEError) throw unknown(`the list at ${uri} does not hold: ${cause.message}`, cause);
      throw cause;
    }
  }
}

async function unpack(claim: unknown): Promise<{ bits: number; bytes: Uint8Array }> {
  const { bits, lst } = (claim ?? {}) as { bits?: unknown; lst?: unknown };
  if (typeof lst !== 'string' || typeof bits !== 'number' || ![1, 2, 4, 8].includes(bits)) throw unknown('the list has no status_list');
  try {
    return { bits, bytes: await promisify(inflate)(Buffer.from(lst, 'base64url'), { maxOutputLength: largestList }) };
  } catch (cause) {
    throw unknown('the list cannot be unpacked', cause);
  }
}

/** Statuses are packed from the lowest bit of each byte upwards (§4.1 of the draft). */
function statusAt({ bits, bytes }: List, idx: number): number {
  const perByte = 8 / bits;
  const byte = bytes[Math.floor(idx / perByte)];
  if (byte === undefined) throw unknown('the token is not in the list');
  return (byte >> ((idx % perByte) * bits)) & (2 ** bits - 1);
}

function unknown(why: string, cause?: unknown): UnavailableError {
  return new UnavailableError(`it is not known whether the token is revoked: ${why}`, { code: 'STATUS_UNKNOWN', cause });
}
