import type { SentryAgentError } from './errors.js';

/** A token and what it is good for. */
export interface AccessToken {
  /** The token, to be sent as `Authorization: Bearer …`. */
  token: string;
  /** The scope that was granted, separated by spaces. */
  scope: string;
  /** When it expires, by this machine's clock. */
  expiresAt: Date;
}

/** What the token endpoint answered. */
export interface Grant {
  token: string;
  scope: string;
  /** How long it lives from when it was asked for, in milliseconds. */
  lifetimeMs: number;
}

/** A moment on both clocks of this machine. */
interface Moment {
  wall: number;
  steady: number;
}

interface Entry {
  /** The token that is used, where there is one. */
  current?: AccessToken & { asked: Moment; lifetimeMs: number; renewAfterMs: number };
  /** The request that is under way, where there is one: all callers share it. */
  pending?: Promise<AccessToken>;
}

/** At most so many different tokens are kept; the one not used for longest goes. */
const mostEntries = 1000;

/**
 * Keeps tokens in memory, one for each key. A token is asked for once however many callers wait, and again ahead of its
 * expiry, behind the callers' backs, at a moment that differs from process to process.
 */
export class TokenCache {
  readonly #entries = new Map<string, Entry>();
  readonly #onRenewalError: (error: SentryAgentError) => void;

  constructor(onRenewalError: (error: SentryAgentError) => void) {
    this.#onRenewalError = onRenewalError;
  }

  /** Gives the token of a key, asking for one where there is none that still holds. */
  get(key: string, ask: () => Promise<Grant>): Promise<AccessToken> {
    const entry = this.#entry(key);
    const { current } = entry;
    const age = current ? elapsed(current.asked) : Infinity;
    if (!current || age >= current.lifetimeMs) return (entry.pending ??= this.#renew(entry, ask));
    if (age >= current.renewAfterMs && !entry.pending) {
      entry.pending = this.#renew(entry, ask);
      entry.pending.catch(this.#onRenewalError); // the token still holds: nobody has to wait for the next one
    }
    return Promise.resolve(current);
  }

  /** Forgets a token that was refused, unless it has been replaced already. */
  forget(key: string, token: string): void {
    const entry = this.#entries.get(key);
    if (entry?.current?.token === token) delete entry.current;
  }

  /** Forgets a token wherever it is kept. */
  forgetToken(token: string): void {
    for (const key of this.#entries.keys()) this.forget(key, token);
  }

  /** Forgets all tokens. Requests under way are not waited for by new callers. */
  clear(): void {
    this.#entries.clear();
  }

  #entry(key: string): Entry {
    const entry = this.#entries.get(key) ?? {};
    this.#entries.delete(key); // set again, it is the last one to go
    this.#entries.set(key, entry);
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= mostEntries) break;
      this.#entries.delete(oldest);
    }
    return entry;
  }

  async #renew(entry: Entry, ask: () => Promise<Grant>): Promise<AccessToken> {
    const asked = now();
    try {
      const { token, scope, lifetimeMs } = await ask();
      const margin = Math.min(10_000, lifetimeMs / 10); // it has to hold until it arrives
      entry.current = {
        token,
        scope,
        expiresAt: new Date(asked.wall + lifetimeMs),
        asked,
        lifetimeMs: lifetimeMs - margin,
        renewAfterMs: lifetimeMs * (0.7 + 0.15 * Math.random()),
      };
      return entry.current;
    } finally {
      delete entry.pending;
    }
  }
}

function now(): Moment {
  return { wall: Date.now(), steady: performance.now() };
}

/** The time since a moment, in milliseconds, by whichever clock says more: one can be set back, the other sleeps with the machine. */
function elapsed(since: Moment): number {
  const { wall, steady } = now();
  return Math.max(wall - since.wall, steady - since.steady);
}
