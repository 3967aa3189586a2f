import { UnavailableError } from './errors.js';

/** A signal that ends with the caller's, or after a time. */
export interface Deadline {
  signal: AbortSignal;
  /** Tells the failure of a request as what it was: the caller's abort stays as it is, all else becomes {@link UnavailableError}. */
  explain(cause: unknown): unknown;
  /** Ends the watch on the time. What is still being read ends with the caller's signal, unless it was read to its end. */
  clear(read: 'to the end' | 'headers'): void;
}

/** Starts a deadline for one attempt at a request to `url`; without `ms` it ends with the caller's signal alone. */
export function deadline(url: string | URL, ms: number | undefined, caller: AbortSignal | undefined): Deadline {
  const controller = new AbortController();
  let late = false;
  const onAbort = (): void => controller.abort(caller?.reason);
  const onTime = (): void => {
    late = true;
    controller.abort();
  };
  const timer = ms === undefined ? undefined : setTimeout(onTime, ms);
  if (caller?.aborted) onAbort();
  caller?.addEventListener('abort', onAbort, { once: true });
  return {
    signal: controller.signal,
    explain(cause) {
      if (caller?.aborted) return cause;
      const { origin } = new URL(url);
      if (late) return new UnavailableError(`no answer from ${origin} within ${String(ms)} ms`, { code: 'TIMEOUT', cause });
      return new UnavailableError(`no answer from ${origin}`, { code: 'UNAVAILABLE', cause });
    },
    clear(read) {
      clearTimeout(timer);
      if (read === 'to the end') caller?.removeEventListener('abort', onAbort);
    },
  };
}
