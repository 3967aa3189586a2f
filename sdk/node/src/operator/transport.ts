import { randomUUID } from 'node:crypto';
import { routes } from '../contract/routes.js';
import type { Calls } from '../contract/calls.js';
import type { Schemas } from '../contract/types.js';
import { SentryAgentError, UnavailableError, errorOf, invalid } from '../errors.js';
import { send, type HttpOptions, type HttpRequest } from '../http.js';
import type { AgentIdentity } from '../identity.js';
import { wordsOf } from '../settings.js';
import { Call, type Answer } from './call.js';
import { Lines, Upload, valuesOf, type Source } from './lines.js';
import { Pages, type Page } from './pages.js';
import type { CallOptions, ChangeOptions, CreateOptions } from './types.js';

/** The name of an operation of the contract. */
type Operation = keyof typeof routes;
type Member<Of, Key extends string> = Of extends { [K in Key]: infer M } ? M : never;

/** What an operation answers. */
type AnswerOf<Op extends Operation> = {
  json: Member<Member<Calls, Op>, 'answer'>;
  text: string;
  bytes: Uint8Array;
  stream: ReadableStream<Uint8Array>;
  nothing: void;
}[(typeof routes)[Op]['answer']];

type Input<Op extends Operation, Key extends string> = Member<Member<Schemas, Op>, Key>;

/** All that can be given for one call. */
interface CallInput<Op extends Operation> {
  path?: Member<Member<Calls, Op>, 'path'>;
  query?: Input<Op, 'query'>;
  body?: Input<Op, 'body'>;
  /** The body as it is sent, in place of `body`. */
  raw?: string | ReadableStream<Uint8Array>;
  headers?: Record<string, string>;
  options?: CallOptions & Partial<Pick<CreateOptions & ChangeOptions, 'organizationId' | 'idempotencyKey' | 'ifMatch'>>;
}

/** How one operation is called. */
interface Route {
  method: string;
  path: string;
  scopes?: readonly string[];
  body?: string;
  answer: 'json' | 'text' | 'bytes' | 'stream' | 'nothing';
  idempotencyKey?: true;
  also?: readonly number[];
}

/** POSTs that may be carried out twice without harm, though they carry no idempotency key. */
const harmless: ReadonlySet<Operation> = new Set<Operation>(['issueToken', 'introspectToken', 'revokeToken', 'rotateOwnSecret']);

/** Calls any operation of the contract by its name; the groups of the client are a line for each. */
export class Transport {
  constructor(
    private readonly identity: AgentIdentity,
    private readonly http: HttpOptions,
  ) {}

  /** Calls an operation with a token for exactly the scope it asks for. */
  call<Op extends Operation>(operation: Op, input: CallInput<Op> = {}): Call<AnswerOf<Op>> {
    return new Call(this.#run(operation, input));
  }

  /** A list, fetched page by page. */
  pages<Op extends Operation, T>(operation: Op, input: CallInput<Op>): Pages<T> {
    return new Pages<T>((cursor) => {
      const query = cursor === undefined ? input.query : ({ ...(input.query as object | undefined), cursor } as unknown as Input<Op, 'query'>);
      return this.call(operation, { ...input, query }) as unknown as Promise<Page<T>>;
    });
  }

  /** An answer of many lines, and a body of as many, where there is a source of them. */
  lines<Op extends Operation, T>(operation: Op, input: CallInput<Op>, source?: Source<unknown>): Lines<T> {
    return new Lines<T>(() => this.#lines(operation, input, source));
  }

  async *#lines<Op extends Operation, T>(operation: Op, input: CallInput<Op>, source: Source<unknown> | undefined): AsyncGenerator<T, void, undefined> {
    const upload = source && new Upload(source);
    try {
      const { data } = await this.#run(operation, { ...input, raw: upload?.body });
      yield* valuesOf<T>(data as ReadableStream<Uint8Array>);
    } catch (cause) {
      if (upload?.failure) throw upload.failure.reason;
      if (cause instanceof SentryAgentError || input.options?.signal?.aborted) throw cause;
      throw new UnavailableError('the answer broke off: what was read of it is not all', { code: 'UNAVAILABLE', cause });
    } finally {
      upload?.end();
    }
  }

  async #run<Op extends Operation>(operation: Op, input: CallInput<Op>): Promise<Answer<AnswerOf<Op>>> {
    const route: Route = routes[operation];
    const { signal, timeoutMs, scope, organizationId, idempotencyKey, ifMatch } = input.options ?? {};
    const query = { organizationId, ...(input.query as Record<string, string> | undefined) };
    const headers: Record<string, string> = { accept: '*/*', ...input.headers };
    const body = input.raw ?? bodyOf(route.body, input.body);
    if (route.body && body !== undefined) headers['content-type'] = route.body;
    if (route.idempotencyKey) headers['idempotency-key'] = idempotencyKey ?? randomUUID();
    if (ifMatch !== undefined) headers['if-match'] = ifMatch;
    const request: HttpRequest = {
      url: this.identity.issuer + pathOf(route.path, input.path) + queryOf(query),
      method: route.method,
      headers,
      body,
      safe: route.method === 'GET' || route.method === 'DELETE' || route.idempotencyKey === true || harmless.has(operation),
      signal,
      timeoutMs,
      stream: route.answer === 'stream',
      also: route.scopes ? [401] : route.also,
    };
    return answerOf(route, await this.#send(request, route, wordsOf([...wordsOf(scope), ...(query.organizationId ? ['organizations:admin'] : [])])));
  }

  async #send(request: HttpRequest, route: Route, more: string[]): Promise<Response> {
    if (!route.scopes) return send(this.http, request);
    const wanted = { scope: [...route.scopes, ...more], resource: [], signal: request.signal };
    const response = await this.identity.authorized(wanted, !(request.body instanceof ReadableStream), (token) =>
      send(this.http, { ...request, headers: { ...request.headers, authorization: `Bearer ${token}` } }),
    );
    if (response.status === 401) throw await errorOf(response);
    return response;
  }
}

function pathOf(template: string, values: Record<string, string> | undefined): string {
  return template.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = values?.[name] ?? '';
    // "", "." and ".." would be another path; an index of tiles holds slashes (C2SP tlog-tiles)
    const parts = name === 'index' ? value.split('/') : [value];
    if (parts.some((part) => /^\.{0,2}$/.test(part))) throw invalid(name, 'required', 'it must name something');
    return parts.map(encodeURIComponent).join('/');
  });
}

function queryOf(values: Record<string, string | number | boolean | null | undefined>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== undefined && value !== null) query.set(name, String(value));
  }
  return query.size > 0 ? `?${query.toString()}` : '';
}

function bodyOf(type: string | undefined, body: unknown): string | URLSearchParams | undefined {
  if (!type || body === undefined) return undefined;
  if (type.endsWith('json') && !type.endsWith('ndjson')) return JSON.stringify(body);
  if (type !== 'application/x-www-form-urlencoded') return (body as string);
  const form = new URLSearchParams();
  for (const [name, value] of Object.entries(body as Record<string, unknown>)) {
    for (const each of Array.isArray(value) ? value : [value]) if (each !== undefined) form.append(name, String(each));
  }
  return form;
}

async function answerOf<T>(route: Route, response: Response): Promise<Answer<T>> {
  const header = (name: string): string | undefined => response.headers.get(name) ?? undefined;
  return {
    data: (await dataOf(route, response)) as T,
    status: response.status,
    requestId: header('x-request-id'),
    etag: header('etag'),
    auditEventId: header('audit-event-id'),
    replayed: header('idempotency-replayed') === 'true',
    headers: response.headers,
  };
}

async function dataOf(route: Route, response: Response): Promise<unknown> {
  switch (route.answer) {
    case 'json':
      return response.json();
    case 'text':
      return response.text();
    case 'bytes':
      return new Uint8Array(await response.arrayBuffer());
    case 'stream':
      return response.body;
    case 'nothing':
      return undefined;
  }
}
