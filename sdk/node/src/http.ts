import { deadline } from './deadline.js';
import { errorOf } from './errors.js';
import { repeat, type RetryOptions } from './repeat.js';
import { version } from './version.js';

/** How requests are sent. */
export interface HttpOptions extends RetryOptions {
  /** How long one attempt may take, in milliseconds; 10,000 unless it is set. */
  timeoutMs?: number;
  /** The `fetch` to send with, for proxies and tests; the global one unless it is set. */
  fetch?: typeof globalThis.fetch;
}

/** One request, to be sent as often as it may be. */
export interface HttpRequest {
  url: string;
  method: string;
  headers?: Record<string, string>;
  /** A stream is sent once, whatever happens, and takes the time it takes. */
  body?: string | URLSearchParams | ReadableStream<Uint8Array>;
  /** Whether it may be carried out twice without harm. */
  safe: boolean;
  signal?: AbortSignal;
  timeoutMs?: number;
  /** Whether the body is handed on as it comes; the time-out then ends with the headers. */
  stream?: boolean;
  /** Statuses beside 2xx that are answers and no errors. */
  also?: readonly number[];
}

/**
 * Sends a request, again where that helps, and gives an answer whose body is here already, unless it is a stream.
 *
 * @throws {@link SentryAgentError} of the kind that the answer tells, and {@link UnavailableError} where there is none.
 */
export async function send(options: HttpOptions, request: HttpRequest): Promise<Response> {
  const once = request.body instanceof ReadableStream;
  const response = await repeat(once ? { retries: 0 } : options, request.safe, request.signal, () => attempt(options, request));
  if (response.ok || request.also?.includes(response.status)) return response;
  throw await errorOf(response);
}

async function attempt(options: HttpOptions, request: HttpRequest): Promise<Response> {
  const { fetch = globalThis.fetch } = options;
  const upload = request.body instanceof ReadableStream;
  const limit = deadline(request.url, request.timeoutMs ?? (upload ? undefined : (options.timeoutMs ?? 10_000)), request.signal);
  let streams = false;
  try {
    const response = await fetch(request.url, {
      method: request.method,
      headers: { accept: 'application/json', 'user-agent': `agentidp-node/${version}`, ...request.headers },
      redirect: 'manual', // what carries a secret goes where it was sent, and nowhere else
      signal: limit.signal,
      body: request.body,
      ...(upload && { duplex: 'half' as const }),
    });
    streams = request.stream === true && response.ok;
    return streams ? response : await held(response);
  } catch (cause) {
    throw limit.explain(cause);
  } finally {
    limit.clear(streams ? 'headers' : 'to the end');
  }
}

/** The same answer with its body read, so that reading it cannot fail later. */
async function held(response: Response): Promise<Response> {
  const { status, headers } = response;
  const body = await response.arrayBuffer();
  return new Response(body.byteLength === 0 ? null : body, { status, headers });
}
