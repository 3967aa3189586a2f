import { SentryAgentError, retryAfter } from './errors.js';

/** How often and how long is tried again. */
export interface RetryOptions {
  /** How many times a request is tried again; 2 unless it is set, 0 for never. */
  retries?: number;
  /** The longest wait before a further try, in milliseconds; 20,000 unless it is set. A server that asks for more is not waited for. */
  maxRetryDelayMs?: number;
}

/** The first wait is up to this many milliseconds, and each further one up to twice as many. */
const firstDelayMs = 200;

/** What the operating system says where a request did not leave this machine, or did not reach the other. */
const notSent: ReadonlySet<string> = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'UND_ERR_CONNECT_TIMEOUT']);

/**
 * Runs attempts until one is final. What may have been carried out is only tried again where that is safe; what was refused
 * (429) or never sent always is. The last answer or failure is handed on as it is.
 */
export async function repeat(options: RetryOptions, safe: boolean, signal: AbortSignal | undefined, attempt: () => Promise<Response>): Promise<Response> {
  const { retries = 2, maxRetryDelayMs = 20_000 } = options;
  for (let tried = 0; ; tried++) {
    const backoff = Math.min(maxRetryDelayMs, firstDelayMs * 2 ** tried) * Math.random();
    let delay: number;
    try {
      const response = await attempt();
      delay = Math.max(backoff, 1000 * (retryAfter(response) ?? 0));
      if (tried >= retries || !worthwhile(response.status, safe) || delay > maxRetryDelayMs) return response;
      await response.body?.cancel();
    } catch (error) {
      if (tried >= retries || signal?.aborted || !(safe || neverSent(error))) throw error;
      delay = backoff;
    }
    await sleep(delay, signal);
  }
}

function worthwhile(status: number, safe: boolean): boolean {
  return status === 429 || (safe && (status === 502 || status === 503 || status === 504));
}

function neverSent(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) {
    const code: unknown = at instanceof SentryAgentError ? undefined : (at as NodeJS.ErrnoException).code;
    if (typeof code === 'string' && notSent.has(code)) return true;
  }
  return false;
}

function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(reasonOf(signal));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    if (signal?.aborted) onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/** Lets a caller leave a shared piece of work, which goes on for the others. */
export function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(reasonOf(signal));
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

function reasonOf(signal: AbortSignal | undefined): Error {
  return signal?.reason instanceof Error ? signal.reason : new DOMException('This operation was aborted', 'AbortError');
}
